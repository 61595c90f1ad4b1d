"""SIGTERM: what was accepted finishes, nothing new is accepted, the record is closed, the exit code is 0."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.upstream import Received, Upstream, echo
from tests.fakes.watch import WatchedHouse


def slow(upstream: Upstream, connection: socket.socket, request: Received) -> bool:
    """Takes its time."""
    time.sleep(0.8)
    return echo(upstream, connection, request)


def dripping(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Answers at once, and goes on answering."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
    for _step in range(8):
        time.sleep(0.1)
        connection.sendall(b".")
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("answer", [slow, dripping])
def test_a_request_under_way_completes(
    tmp_path: Path, number: signal.Signals, answer: Callable[[Upstream, socket.socket, Received], bool]
) -> None:
    house = WatchedHouse(tmp_path)
    try:
        house.start()
        process = house.process
        assert process is not None
        resting, busy = house.connect(), house.connect()
        assert resting.send(house.request()).answer().status == 200
        house.upstream.answer = answer
        busy.send(house.request("POST /orders", body=b"x"))
        while len(house.upstream.requests) < 2:
            time.sleep(0.01)
        process.send_signal(number)
        assert resting.ended()  # at once: it is not kept until the busy one is done
        assert process.poll() is None
        with pytest.raises(ConnectionError):
            house.raw()
        complete = busy.answer()
        assert complete.status == 200
        assert complete.body in (b"." * 8, b'{"line": "POST /orders HTTP/1.1", "body": "x"}')
        assert busy.ended()
        resting.close()
        busy.close()
        assert process.wait(timeout=10) == 0
        assert [record["code"] for record in house.records("access.ended")] == ["completed"] * 2
        assert house.records()[-1]["event"] == "process.stopped"
        assert "Traceback" not in (house.folder / "stderr.log").read_text()
    finally:
        house.close()


def test_a_resting_client_that_does_not_look_delays_nothing(tmp_path: Path) -> None:
    """Most pools look at a connection only when they want to use it: nobody answers the proxy's end of TLS then."""
    house = WatchedHouse(tmp_path)
    try:
        house.start()
        resting = [house.connect() for _ in range(3)]
        for connection in resting[1:]:
            assert connection.send(house.request()).answer().status == 200
        started = time.monotonic()
        assert house.stop() == 0
        assert time.monotonic() - started < 5
        for connection in resting:
            connection.close()
        assert house.records()[-1]["event"] == "process.stopped"
    finally:
        house.close()
