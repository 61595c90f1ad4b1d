"""`ztproxy serve`: what it says when ready and when it cannot, and that a signal ends it in order."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.fakes.proxy import House
from tests.fakes.upstream import Received, Upstream
from tests.proxy.wires import soon
from ztproxy.cli.serve import command


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def fails(house: House) -> subprocess.CompletedProcess[str]:
    """A proxy that cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "ztproxy", "serve", "-c", str(house.file)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_under_way_finish_and_ends_with_0(house: House, number: signal.Signals) -> None:
    released = threading.Event()

    def held(_: Upstream, connection: socket.socket, __: Received) -> bool:
        released.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    house.start()
    house.upstream.answer = held
    connection = house.connect().send(house.request())
    assert soon(lambda: house.upstream.requests)
    assert house.process is not None
    house.process.send_signal(number)
    assert soon(lambda: refused(house))
    released.set()
    assert connection.answer().body == b"ok"
    assert connection.ended()
    connection.close()
    assert house.process.wait(timeout=20) == 0
    events = [record["event"] for record in house.records()]
    assert [event for event in events if event != "connection.failed"] == [  # which is how we saw that it drains
        "process.started",
        "access.decided",
        "access.ended",
        "process.stopped",
    ]
    assert "Traceback" not in (house.folder / "stderr.log").read_text()


def refused(house: House) -> bool:
    try:
        house.raw().close()
    except ConnectionError:
        return True
    return False


def serve(house: House) -> Result:
    """The command, here, until SIGTERM ends it as soon as it says in its records that it runs."""
    done = threading.Event()

    def started() -> bool:
        return done.is_set() or bool(house.records("process.started"))

    def end() -> None:
        if soon(started, seconds=20) and not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end)
    threshold = gc.get_threshold()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # should it have ended by itself meanwhile
    ending.start()
    try:
        return CliRunner().invoke(command, ["-c", str(house.file)])
    finally:
        done.set()
        ending.join()
        signal.signal(signal.SIGTERM, before)
        gc.unfreeze()
        gc.set_threshold(*threshold)


LISTENING = re.compile(r"ztproxy listening on https://127\.0\.0\.1:(\d+) \((\w+)\)")


def test_the_first_words_say_where_it_listens(house: House) -> None:
    result = serve(house)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    found = LISTENING.fullmatch(line)
    assert found
    assert (int(found[1]) > 0, found[2]) == (True, "edge")


def test_every_listener_has_a_line_in_the_order_written(tmp_path: Path) -> None:
    def two(configuration: dict[str, Any]) -> None:
        (first,) = configuration["listeners"]
        configuration["listeners"].append({**first, "name": "inner"})

    house = House(tmp_path, change=two)
    result = serve(house)
    house.close()
    assert [match and match[2] for match in map(LISTENING.fullmatch, result.stdout.splitlines())] == ["edge", "inner"]


def test_without_uvloop_it_serves_and_warns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    result = serve(house)
    assert result.exit_code == 0
    assert LISTENING.match(result.stdout)
    assert result.stderr.startswith("ztproxy: warning: uvloop is not installed")
    assert len(result.stderr.splitlines()) == 1


def test_warnings_come_first_and_do_not_stop_it(tmp_path: Path) -> None:
    def anyone(configuration: dict[str, Any]) -> None:
        configuration["routes"][0]["authenticate"] = "none"

    house = House(tmp_path, change=anyone)
    result = serve(house)
    house.close()
    assert result.exit_code == 0
    warnings = result.stderr.splitlines()
    assert warnings
    assert all(re.match(rf"{re.escape(str(house.file))}:\d+:\d+: warning: ", line) for line in warnings)


def test_a_configuration_with_problems_is_not_served(house: House) -> None:
    written = json.loads(house.file.read_text())
    written["routes"][0]["polocy"] = written["routes"][0].pop("policy")
    written["listeners"][0]["bind"] = "nowhere"
    house.file.write_text(json.dumps(written, indent=1))
    result = fails(house)
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) >= 2
    assert all(re.match(rf"{re.escape(str(house.file))}:\d+:\d+: ", line) for line in lines)
    assert any("did you mean `policy`?" in line for line in lines)
    assert not house.spool.exists()


def test_a_policy_with_problems_is_not_served(house: House) -> None:
    (house.folder / "policy.json").write_text('{"Version": "2012-10-17", "Statement": {"Efect": "Allow"}}')
    result = fails(house)
    assert result.returncode == 2
    assert f"{house.folder}/policy.json:1:" in result.stderr
    assert "Traceback" not in result.stderr


@contextmanager
def occupied(house: House) -> Iterator[str]:
    """An address of the configuration is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        written = json.loads(house.file.read_text())
        written["listeners"][0]["bind"] = f"127.0.0.1:{port}"
        house.file.write_text(json.dumps(written))
        yield f"cannot listen on 127.0.0.1:{port}: "


@contextmanager
def barred(house: House) -> Iterator[str]:
    """The spool is no directory."""
    house.spool.write_text("")
    yield str(house.spool)


@pytest.mark.parametrize("spoiled", [occupied, barred])
def test_what_it_cannot_have_is_said_in_one_line(
    house: House, spoiled: Callable[[House], AbstractContextManager[str]]
) -> None:
    with spoiled(house) as expected:
        apart, here = fails(house), serve(house)
    for code, out, err in (
        (apart.returncode, apart.stdout, apart.stderr),
        (here.exit_code, here.stdout, here.stderr),
    ):
        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith("ztproxy: ")
        assert expected in line


def test_without_a_file_it_says_how(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, []).exit_code == 2
    result = CliRunner().invoke(command, ["-c", str(tmp_path / "absent.yaml")])
    assert "cannot be read" in str(result.exception)
