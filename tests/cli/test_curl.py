"""`ztproxy curl` runs the real curl, in place of itself, with nothing secret where others could read it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.dev.scripted import Answer, Asked, demo_note, demo_pki, https
from ztproxy.cli.curl import MAX_PIPED_BYTES, command, path_and_options, piped
from ztproxy.dev.ca import Pki
from ztproxy.dev.oidc import OidcIssuer
from ztproxy.dev.state import StateFolder, note_to_json


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return demo_pki(tmp_path_factory.mktemp("tls"))


@contextmanager
def demo(folder: StateFolder, pki: Pki, seen: list[Asked]) -> Iterator[OidcIssuer]:
    """A demo whose proxy remembers what it is asked; its issuer answers while `inside` runs."""

    def script(asked: Asked) -> Answer:
        seen.append(asked)
        return 403, {"Content-Type": "application/problem+json"}, b'{"detail": "no"}\n' + asked.body

    issuer = OidcIssuer()
    with folder.held(), https(pki, script) as port:
        folder.note.write_bytes(b"")
        issuer.calls["port"] = port
        yield issuer


def inside(folder: StateFolder, pki: Pki, issuer: OidcIssuer, act: Callable[[], object]) -> None:
    async def run() -> None:
        async with issuer.serving():
            secret = issuer.client_secret.reveal()
            note = demo_note(pki, issuer.calls["port"], token_url=issuer.token_url, client_secret=secret)
            folder.note.write_bytes(note_to_json(note))
            await asyncio.to_thread(act)

    asyncio.run(run())


def start(folder: StateFolder, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ztproxy", "curl", "--state", str(folder.path), *arguments],
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_it_sends_as_a_person_and_leaves_streams_and_exit_code_to_curl(tmp_path: Path, pki: Pki) -> None:
    folder, seen = StateFolder(tmp_path), list[Asked]()
    results: list[subprocess.CompletedProcess[bytes]] = []

    def act() -> None:
        results.append(start(folder, "-X", "DELETE", "-d", "@-", "/orders/42", stdin=b"from stdin"))
        results.append(start(folder, "/orders/43", "--as", "ada", "-HX-House: h", "--fail"))
        results.append(start(folder, "--as", "ci", "/orders/44"))

    with demo(folder, pki, seen) as issuer:
        inside(folder, pki, issuer, act)
    assert [(result.returncode, result.stdout) for result in results] == [
        (0, b'{"detail": "no"}\nfrom stdin'),
        (22, b""),
        (0, b'{"detail": "no"}\n'),
    ]
    assert results[0].stderr == b"HTTP 403\n"
    assert [(asked.person, asked.method, asked.target, asked.body) for asked in seen] == [
        ("bob", "DELETE", "/orders/42", b"from stdin"),
        ("ada", "GET", "/orders/43", b""),
        ("ci", "GET", "/orders/44", b""),
    ]
    assert [asked.headers["authorization"].partition(" ")[0] for asked in seen] == [
        "Bearer",
        "Bearer",
        "AWS4-HMAC-SHA256",
    ]
    assert seen[1].headers["x-house"] == "h"
    assert issuer.calls["/token"] == 2


FAKE_CURL = """\
#!{python}
import os, sys
config = open(sys.argv[sys.argv.index("-K") + 1]).read()
print(sys.argv[1:])
print("Bearer in config:", "Authorization: Bearer ey" in config)
print("Bearer elsewhere:", any("ey" in text for text in [*sys.argv, *os.environ.values()] if "Bearer" in text))
"""


def test_nothing_secret_is_on_the_command_line_or_in_the_environment(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "curl"
    program.parent.mkdir()
    program.write_text(FAKE_CURL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    folder, results = StateFolder(tmp_path / "demo"), list[subprocess.CompletedProcess[bytes]]()
    with demo(folder, pki, []) as issuer:
        inside(folder, pki, issuer, lambda: results.append(start(folder, "-d", "$(id); `id`", "/orders/42")))
    arguments, inside_config, elsewhere = results[0].stdout.decode().splitlines()
    assert arguments.startswith("['-q', '-K', '/dev/fd/")
    assert arguments.endswith("', '-d', '$(id); `id`']")
    assert (inside_config, elsewhere) == ("Bearer in config: True", "Bearer elsewhere: False")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_without_a_demo_it_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = run("/orders/42")
    assert result.exit_code == 5
    folder = tmp_path / "ztproxy" / "demo"
    assert result.output == f"ztproxy: no demo is running in `{folder}`; start one with `ztproxy demo`\n"


def test_without_curl_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--state", str(tmp_path), "/orders/42")
    assert (result.exit_code, result.output) == (
        1,
        "ztproxy: curl is not installed; on Debian and Ubuntu: apt-get install curl\n",
    )


def test_an_issuer_that_fails_and_a_stranger_are_told_in_one_line(tmp_path: Path, pki: Pki) -> None:
    folder, results = StateFolder(tmp_path), list[Result]()

    def act() -> None:
        state = ("--state", str(tmp_path))
        results.append(run(*state, "--as", "mallory", "/orders/42"))
        issuer.fail_status = 500
        results.append(run(*state, "/orders/42"))
        results.append(run(*state, "/orders/4 2", "--as", "ci"))

    with demo(folder, pki, []) as issuer:
        inside(folder, pki, issuer, act)
    assert [result.exit_code for result in results] == [2, 1, 1]
    assert "Invalid value for --as: the demo knows ada, bob, ci, eve" in results[0].output
    assert results[1].output == "ztproxy: the demo's identity provider gave no token for `bob` (status 500)\n"
    assert "is no path" in results[2].output


@pytest.mark.parametrize(
    ("arguments", "path", "options"),
    [
        (["/a"], "/a", []),
        (["-X", "DELETE", "/a"], "/a", ["-X", "DELETE"]),
        (["/a", "-i", "-o", "/tmp/b"], "/a", ["-i", "-o", "/tmp/b"]),
        (["-o", "/tmp/b", "/a"], "/a", ["-o", "/tmp/b"]),
    ],
)
def test_the_path_stands_first_or_last(arguments: list[str], path: str, options: list[str]) -> None:
    assert path_and_options(tuple(arguments)) == (path, options)


@pytest.mark.parametrize("arguments", [[], ["-i"], ["orders/42"], ["-o", "/tmp/b", "-i"], ["https://localhost:8443/a"]])
def test_without_a_path_it_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError, match="give a path"):
        path_and_options(tuple(arguments))
    assert run(*arguments).exit_code == 2


def test_a_piped_text_is_read_whole_by_its_name() -> None:
    name = piped(b"x" * MAX_PIPED_BYTES)
    descriptor = int(name.rpartition("/")[2])
    assert os.get_inheritable(descriptor)
    with open(descriptor, "rb") as file:
        assert file.read() == b"x" * MAX_PIPED_BYTES


def test_a_text_that_would_block_the_pipe_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        piped(b"x" * (MAX_PIPED_BYTES + 1))


def test_curls_own_short_options_are_not_ours() -> None:
    assert run("-h").exit_code == 2
    assert "Usage:" in run("--help").output
