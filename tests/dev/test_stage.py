"""The demo comes up, says each part, leaves a note, and takes everything down again, whatever its proxy does.

Here the proxy is a small program in its place; `tests/cli/test_demo.py` runs the real one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from ztproxy.config import load
from ztproxy.dev import stage
from ztproxy.dev.stage import Stage, log_tail, proxy_environment, staged
from ztproxy.dev.state import DemoError, StateFolder

READY = "print('ztproxy listening on https://localhost', flush=True)\n"
UNTIL_TERM = "signal.sigwait([signal.SIGTERM])\n"
GOOD = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n" + READY + UNTIL_TERM


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "demo")


def proxy_is(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(stage, "proxy_command", lambda config: (sys.executable, "-c", textwrap.dedent(program)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def show(folder: StateFolder, *, port: int | None = None) -> tuple[list[str], Stage]:
    said: list[str] = []

    async def run() -> Stage:
        async with staged(folder, port, said.append) as up:
            assert folder.read_note().url == up.note.url
            assert alive(up.proxy.pid)
            return up

    return said, asyncio.run(run())


def test_it_comes_up_and_goes_down(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy_is(monkeypatch, GOOD)
    said, up = show(folder)
    assert said == [
        "dev CA and certificates",
        "dev identity provider   users: ada (admin), bob (dev), eve (contractor)",
        'sample API "orders"',
        f"proxy {up.note.url}",
    ]
    assert not alive(up.proxy.pid)
    assert not folder.is_held()
    assert not folder.note.exists()


def test_a_second_time_keeps_certificates_and_key(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy_is(monkeypatch, GOOD)
    _, first = show(folder)
    kept = {path: path.read_bytes() for path in (*folder.tls.rglob("*.*"), *folder.keys.iterdir())}
    _, second = show(folder)
    assert {path: path.read_bytes() for path in kept} == kept
    assert second.note.access_keys["ci"].secret.reveal() == first.note.access_keys["ci"].secret.reveal()
    assert second.note.client_secret.reveal() != first.note.client_secret.reveal()


def test_everything_in_the_folder_is_its_owners_alone(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy_is(monkeypatch, GOOD)
    show(folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [folder.path, *folder.path.rglob("*")]}
    assert set(modes.values()) == {0}


def test_the_configuration_says_where_everything_is(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy_is(monkeypatch, GOOD)
    _, up = show(folder)
    config = yaml.safe_load(folder.config.read_text())
    listener, issuer, route = config["listeners"][0], config["issuers"][0], config["routes"][0]
    assert f"https://localhost:{listener['bind'].rpartition(':')[2]}" == up.note.url
    assert (issuer["issuer"], issuer["jwks"]) == (up.issuer.url, up.issuer.jwks_url)
    assert route["authenticate"] == {"all_of": ["certificate"], "any_of": ["corp", "sigv4"]}
    files = [listener["tls"]["certificate"], listener["tls"]["key"], config["access_keys"][0]["secret"]]
    files += [authority["ca"] for authority in listener["tls"]["client_certificates"]["authorities"]]
    for reference in files:
        assert (folder.path / reference.removeprefix("file:")).is_file()
    policy = yaml.safe_load((folder.path / route["policy"]).read_text())
    assert policy["Version"] == "2012-10-17"
    assert [statement["Sid"] for statement in policy["Statement"]] == [
        "DevelopersRead",
        "AdminsDoEverything",
        "BuildMachineReads",
        "LegalHold",
    ]
    assert {statement["Principal"]["Federated"] for statement in policy["Statement"][:2]} == {up.issuer.url}


def test_the_proxy_takes_the_configuration_without_a_warning(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy_is(monkeypatch, GOOD)
    show(folder)
    assert load(folder.config).warnings == ()


def test_no_secret_stands_in_the_configuration(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy_is(monkeypatch, GOOD)
    _, up = show(folder)
    text = folder.config.read_text()
    assert up.note.client_secret.reveal().decode() not in text
    assert up.note.access_keys["ci"].secret.reveal().decode() not in text


def test_a_proxy_that_ends_at_once_is_told_with_its_last_words(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy_is(monkeypatch, "import sys; print('proxy.yaml:3:1: unknown key', file=sys.stderr); sys.exit(2)")
    with pytest.raises(DemoError, match=r"ended with status 2:\n  proxy.yaml:3:1: unknown key"):
        show(folder)
    assert not folder.is_held()


def test_a_proxy_that_never_gets_ready_is_stopped(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "READY_WITHIN_S", 0.5)
    proxy_is(
        monkeypatch,
        f"import os; open({str(folder.path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + GOOD.replace(READY, ""),
    )
    with pytest.raises(DemoError, match=r"not ready within 0.5 s; see .*proxy\.log"):
        show(folder)
    assert not alive(int((folder.path / "pid").read_text()))


def test_a_proxy_that_does_not_stop_is_killed(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "STOPPED_WITHIN_S", 0.2)
    proxy_is(
        monkeypatch,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "time.sleep(60)",
    )
    _, up = show(folder)
    assert up.proxy.returncode == -9


def test_stopping_gives_the_exit_status_and_may_be_done_twice(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy_is(monkeypatch, GOOD)

    async def run() -> tuple[int, int]:
        async with staged(folder, None, lambda text: None) as up:
            return await up.stop_proxy(), await up.stop_proxy()

    assert asyncio.run(run()) == (0, 0)


def test_a_taken_port_is_told_before_anything_is_written(folder: StateFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=f"port {port} cannot be had .*--port"):
            show(folder, port=port)
    assert [path.name for path in folder.path.iterdir()] == ["lock"]


def test_a_folder_with_something_in_the_way_is_one_clear_error(folder: StateFolder) -> None:
    folder.path.mkdir()
    folder.tls.touch()
    with pytest.raises(DemoError, match="cannot be used"):
        show(folder)


def test_two_demos_do_not_share_a_folder(folder: StateFolder) -> None:
    with folder.held(), pytest.raises(DemoError, match="already running"):
        show(folder)


def test_the_environment_cannot_change_the_configuration() -> None:
    given = {"PATH": "/bin", "ZTPROXY__ROUTES__0__POLICY": "x", "ZTPROXY_DEBUG": "1"}
    assert proxy_environment(given) == {"PATH": "/bin", "ZTPROXY_DEBUG": "1"}


def test_the_proxy_is_started_as_anybody_would() -> None:
    command = stage.proxy_command(Path("/x/proxy.yaml"))
    assert command == (sys.executable, "-m", "ztproxy", "serve", "-c", "/x/proxy.yaml")


def test_last_words_cannot_steer_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 5000 + b"\n\x1b]0;owned\x07\xff\n")
    told = log_tail(log)
    assert told.endswith("\n  ?]0;owned?\ufffd")
    assert len(told) < 2100
