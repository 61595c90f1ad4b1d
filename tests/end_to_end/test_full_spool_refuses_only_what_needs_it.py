"""`audit: required` means: on disk before the upstream hears of it, or not at all; other routes go on meanwhile."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fakes.upstream import Received, Upstream, echo
from tests.fakes.watch import WatchedHouse, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        configuration["routes"].append({**general, "name": "books", "path": "/books/**", "audit": "required"})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


@contextmanager
def disk_full(house: WatchedHouse) -> Iterator[None]:
    """The spool's file cannot grow: every write past its end fails, as on a full disk."""
    assert house.process is not None
    size = max(file.stat().st_size for file in house.spool.glob("*.jsonl"))
    before = resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, before)


def recovered(house: WatchedHouse, count: int) -> dict[str, Any]:
    found = house.wait_records("audit.recovered", count)
    assert len(found) == count
    return found[-1]


def verified(house: WatchedHouse) -> bool:
    command = [sys.executable, "-m", "ztproxy", "audit", "verify", str(house.spool)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("path", ["/books/1", "/orders/1"])
def test_the_record_is_there_before_the_request_is(house: WatchedHouse, path: str) -> None:
    known: list[bool] = []

    def witness(upstream: Upstream, connection: socket.socket, request: Received) -> bool:
        (given,) = request.values(b"x-ztproxy-request-id")
        known.append(any(record["id"] == given.decode() for record in house.records("access.decided")))
        return echo(upstream, connection, request)

    with house.expecting(*served() * 5, forwarded=5):
        house.upstream.answer = witness
        for _ in range(5):
            assert house.ask(f"POST {path}", body=b"x").status == 200
        house.upstream.answer = echo
    assert known == [True] * 5


def test_a_burst_in_one_turn_is_on_record_before_any_of_it_arrives(house: WatchedHouse) -> None:
    """The proxy stands still while many ask, so that it handles them all in one turn of its loop."""
    known: list[bool] = []

    def witness(upstream: Upstream, connection: socket.socket, request: Received) -> bool:
        written = b"".join(file.read_bytes() for file in house.spool.glob("*.jsonl"))
        known.append(b'"id":"%b"' % request.values(b"x-ztproxy-request-id")[0] in written)
        return echo(upstream, connection, request)

    assert house.process is not None
    connections = [house.connect() for _ in range(60)]
    request = house.request("GET /orders/1")
    for answer in (echo, witness):  # the first round leaves as many connections upstream
        house.upstream.answer = answer
        house.process.send_signal(signal.SIGSTOP)
        for connection in connections:
            connection.send(request)
        house.process.send_signal(signal.SIGCONT)
        assert {connection.answer().status for connection in connections} == {200}
    house.upstream.answer = echo
    for connection in connections:
        connection.close()
    assert known == [True] * 60


def test_a_required_record_that_cannot_be_written_refuses_within_a_second(house: WatchedHouse) -> None:
    connection = house.connect()
    assert connection.send(house.request("GET /books/1")).answer().status == 200
    arrived = len(house.upstream.requests)
    asked = []
    with disk_full(house):
        for _ in range(5):
            started = time.monotonic()
            answer = connection.send(house.request("GET /books/1")).answer()
            assert time.monotonic() - started < 1
            assert (answer.status, answer.json["code"]) == (503, "audit.unavailable")
            asked.append(answer.value("x-ztproxy-id"))
        assert len(house.upstream.requests) == arrived
        others = [connection.send(house.request("GET /orders/1")).answer() for _ in range(5)]
        assert [answer.status for answer in others] == [200] * 5
        assert connection.send(house.request("GET /books/1")).answer().status == 503
        assert len(house.upstream.requests) == arrived + 5
    gap = recovered(house, 1)
    assert gap["buffered"] >= 10
    assert connection.send(house.request("GET /books/1")).answer().status == 200
    connection.close()
    decided = house.records("access.decided")
    for other in others:
        assert [each["code"] for each in decided if each["id"] == other.value("x-ztproxy-id")] == ["allowed"]
    told = [[each["code"] for each in decided if each["id"] == attempt] for attempt in asked]
    # The first was sealed before its write failed, so it keeps its place in the chain; its end says what was done.
    assert told == [["allowed"], *[["audit.unavailable"]] * 4]
    ends = [each["code"] for each in house.records("access.ended") if each["id"] == asked[0]]
    assert ends == ["audit.unavailable"]
    assert verified(house)
    assert house.leaks() == []


def test_a_refusal_on_a_full_disk_is_still_a_refusal(house: WatchedHouse) -> None:
    gaps = len(house.records("audit.recovered"))
    with disk_full(house):
        statuses = [house.ask("DELETE /orders/1").status, house.ask("GET /orders/1", token="").status]
    assert statuses == [403, 401]
    recovered(house, gaps + 1)
    assert [record["code"] for record in house.records("access.decided")[-2:]] == [
        "authz.denied-implicit",
        "authn.missing",
    ]
    assert verified(house)


def test_a_spool_that_cannot_be_opened_starts_no_proxy(house: WatchedHouse) -> None:
    """Two writers would break the chain, so the second is told and goes."""
    command = [sys.executable, "-m", "ztproxy", "serve", "-c", str(house.file)]
    second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert "another process writes to the spool" in second.stderr
    assert "Traceback" not in second.stderr
