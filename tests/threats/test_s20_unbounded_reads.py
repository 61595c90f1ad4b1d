"""S20: everything that is read has a bound in bytes, met early, and what flows through is never gathered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes.signing import signature_of, signed
from tests.fakes.upstream import Received, Upstream
from tests.fakes.watch import WatchedHouse, refused, served

MIB = 1024 * 1024
ALLOWED_GROWTH = 24 * MIB


def flooding(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """An answer of 200 MiB."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 * MIB))
    with suppress(OSError):
        for _step in range(200):
            connection.sendall(bytes(MIB))
    return False


class Deaf(Upstream):
    """Accepts, and never reads."""

    def _read(self, connection: socket.socket, buffer: bytes, number: int) -> tuple[Received | None, bytes]:
        time.sleep(3)
        return None, b""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    others = {"flood": Upstream(answer=flooding), "deaf": Deaf()}

    def change(configuration: dict[str, Any]) -> None:
        configuration["listeners"][0]["timeouts"] = {"pre_auth_s": 1}
        general = configuration["routes"][0]
        for name, upstream in others.items():
            configuration["routes"].append(
                {
                    **general,
                    "name": name,
                    "path": f"/{name}/**",
                    "upstream": {"url": f"http://127.0.0.1:{upstream.port}"},
                    "timeouts": {"total_s": 2},
                    "limits": {"body_bytes": 1 << 40},
                }
            )
        configuration["routes"].append(
            {**general, "name": "small", "path": "/small/**", "limits": {"body_bytes": 1000}}
        )

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()
        for upstream in others.values():
            upstream.close()


def resident(house: WatchedHouse) -> int:
    """Bytes of memory the proxy occupies."""
    assert house.process is not None
    with open(f"/proc/{house.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def sent_until_cut(connection: Any, piece: bytes, most: int) -> int:
    """Bytes that went out before the proxy had enough, or would take no more."""
    count = 0
    connection.socket.settimeout(1.0)
    with suppress(OSError):
        while count < most:
            connection.send(piece)
            count += len(piece)
    return count


@pytest.mark.parametrize(
    ("start", "piece", "code"),
    [
        (b"GET /", b"a" * 4096, "protocol.target-size"),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 4096, "protocol.head-size"),
        (b"GET / HTTP/1.1\r\n", b"X: 1\r\n" * 600, "protocol.head-size"),
        (b"", b"a" * 4096, "protocol.target-size"),
    ],
)
def test_a_head_without_end_is_cut(house: WatchedHouse, start: bytes, piece: bytes, code: str) -> None:
    before = resident(house)
    with house.expecting(refused(code)):
        connection = house.connect().send(start)
        started = time.monotonic()
        sent_until_cut(connection, piece, 2000 * MIB)
        assert time.monotonic() - started < 4
        connection.close()
    assert resident(house) - before < ALLOWED_GROWTH


@pytest.mark.parametrize("fields", [("Content-Length: 1001",), ("Transfer-Encoding: chunked",)])
def test_a_body_larger_than_its_route_allows_is_refused(house: WatchedHouse, fields: tuple[str, ...]) -> None:
    body = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n" if "chunked" in fields[0] else b"x" * 1001
    with house.expecting(*served("protocol.body-size")):
        answer = house.ask_on(house.connect(), house.request("POST /small/x", *fields) + body)
    assert (answer.status, answer.json["code"]) == (413, "protocol.body-size")


def test_a_body_of_exactly_its_route_is_served(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        assert house.ask("POST /small/x", body=b"x" * 1000).status == 200


def test_a_signed_body_is_gathered_only_up_to_a_bound(house: WatchedHouse) -> None:
    raw = signed("POST /orders", b"x" * (MIB + 1))
    house.keep_secret(signature_of(raw))
    with house.expecting(refused("protocol.body-size")):
        answer = house.ask_on(house.connect(), raw)
    assert answer.status == 413


@pytest.mark.parametrize("piece", [b"1;" + b"e" * 1000 + b"\r\n", b"0\r\n" + b"X: " + b"a" * 9000 + b"\r\n"])
def test_the_framing_of_a_body_is_bounded_too(house: WatchedHouse, piece: bytes) -> None:
    with house.expecting(*served("protocol.framing")):
        raw = house.request("POST /orders", "Transfer-Encoding: chunked") + piece
        assert house.ask_on(house.connect(), raw).status == 400


def test_an_upload_to_who_does_not_read_is_not_gathered(house: WatchedHouse) -> None:
    before = resident(house)
    peak = [before]
    with house.expecting(*served("upstream.timeout")):
        connection = house.connect().send(house.request("POST /deaf/x", f"Content-Length: {500 * MIB}"))
        watcher = threading.Timer(1.0, lambda: peak.append(resident(house)))
        watcher.start()
        sent_until_cut(connection, bytes(256 * 1024), 500 * MIB)
        watcher.join()
        connection.close()
    assert max(peak) - before < ALLOWED_GROWTH


def test_an_answer_to_who_does_not_read_is_not_gathered(house: WatchedHouse) -> None:
    before = resident(house)
    with house.expecting(*served("grant.expired")):
        connection = house.connect().send(house.request("GET /flood/x"))
        time.sleep(1.0)
        assert resident(house) - before < ALLOWED_GROWTH
        time.sleep(1.5)
        connection.close()


@pytest.mark.parametrize("token", [True, False])
def test_pipelined_requests_wait_in_the_socket(house: WatchedHouse, token: bool) -> None:
    """A client that asks on and on, and reads no answer, is soon not read any further; others do not wait for it."""
    before = resident(house)
    connection = house.connect()
    request = house.request("GET /orders/" + "a" * 2000) if token else b"GET /o HTTP/1.1\r\nHost: localhost\r\n\r\n"
    flood = threading.Thread(target=sent_until_cut, args=(connection, request * 200, 50 * MIB))
    flood.start()
    try:
        bystander = house.connect()
        for _ in range(5):
            started = time.monotonic()
            assert bystander.send(house.request("GET /bystander")).answer().status == 200
            assert time.monotonic() - started < 1
            time.sleep(0.1)
        bystander.close()
    finally:
        flood.join(20)
        grown = resident(house) - before
        connection.close()
    assert grown < ALLOWED_GROWTH


def test_answers_nobody_reads_do_not_pile_up(house: WatchedHouse) -> None:
    """One request at a time, small and honest; only the answers stay unread."""
    before = resident(house)
    connection = house.connect()
    connection.socket.settimeout(1.0)
    request = house.request("GET /orders/" + "a" * 6000)
    with suppress(OSError):
        for _ in range(8000):
            connection.send(request)
    grown = resident(house) - before
    connection.close()
    assert grown < ALLOWED_GROWTH
    assert house.ask().status == 200
