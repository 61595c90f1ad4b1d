"""However an upstream fails, the caller gets one prompt answer, the record says which failure, others are served."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fakes.upstream import Answer, Received, Upstream, raw, respond
from tests.fakes.watch import WatchedHouse, served


def silent(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Takes the request and says nothing until the proxy gives up."""
    connection.recv(1)
    return False


def stalling(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Begins to answer, and then says nothing."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
    connection.recv(1)
    return False


def turning_bad(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Begins well, and goes on with a chunk that is none."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")
    time.sleep(0.1)
    connection.sendall(b"zz\r\nrest\r\n0\r\n\r\n")
    connection.recv(1)
    return False


def resetting(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Answers with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def dying(data: bytes) -> Answer:
    """Says this and ends."""
    return raw(data, close=True)


BEFORE_THE_ANSWER: dict[str, tuple[int, str, Answer]] = {
    "silent": (504, "upstream.timeout", silent),
    "resetting": (502, "upstream.closed", resetting),
    "closing": (502, "upstream.closed", dying(b"")),
    "dying-in-the-head": (502, "upstream.closed", dying(b"HTTP/1.1 200 OK\r\nContent-")),
    "another-protocol": (502, "upstream.response", dying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
    "no-status": (502, "upstream.response", dying(b"HTTP/1.1 OK\r\n\r\n")),
    "two-lengths": (
        502,
        "upstream.response",
        dying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab"),
    ),
    "length-and-chunked": (
        502,
        "upstream.response",
        dying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ),
    "folded": (502, "upstream.response", dying(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n")),
    "unasked-upgrade": (502, "upstream.response", dying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")),
    "bad-chunk-at-once": (
        502,
        "upstream.response",
        dying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\nrest\r\n0\r\n\r\n"),
    ),
    "endless-head": (502, "upstream.response", dying(b"HTTP/1.1 200 OK\r\nX-Fill: " + b"x" * 1_000_000)),
    "endless-interim": (502, "upstream.response", dying(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)),
}
IN_THE_BODY: dict[str, tuple[str, Answer]] = {
    "counted": ("upstream.truncated", dying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")),
    "chunked": ("upstream.truncated", dying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")),
    "in-a-chunk": ("upstream.truncated", dying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nsome")),
    "bad-chunk": ("upstream.response", turning_bad),
    "stalling": ("upstream.timeout", stalling),
}


class FullQueue:
    """A listening socket that accepts nobody and whose queue is full: further connections are not even refused."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting = []
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._waiting.append(waiting)

    def close(self) -> None:
        for each in (*self._waiting, self._listener):
            each.close()


def nobody_listens() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def faults() -> Iterator[dict[str, Any]]:
    """By path: the upstream that fails in that way."""
    answers = {name: answer for name, (_, _, answer) in BEFORE_THE_ANSWER.items()}
    answers |= {name: answer for name, (_, answer) in IN_THE_BODY.items()}
    with ExitStack() as stack:
        made: dict[str, Any] = {name: Upstream(answer=answer) for name, answer in answers.items()}
        made["black-hole"] = FullQueue()
        made["recovers"] = Upstream(answer=respond())
        for each in made.values():
            stack.callback(each.close)
        yield made


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, faults: dict[str, Any]) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        ports = {name: fault.port for name, fault in faults.items()} | {"refusing": nobody_listens()}
        for name, port in ports.items():
            configuration["routes"].append(
                {
                    **general,
                    "name": name,
                    "path": f"/{name}/**",
                    "upstream": {"url": f"http://127.0.0.1:{port}"},
                    "timeouts": {"connect_s": 0.5, "response_s": 0.5},
                }
            )

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", BEFORE_THE_ANSWER)
def test_a_failure_before_the_answer_is_answered(house: WatchedHouse, kind: str, method: str) -> None:
    status, code, _ = BEFORE_THE_ANSWER[kind]
    started = time.monotonic()
    with house.expecting(*served(code)):
        connection = house.connect().send(house.request(f"{method} /{kind}/x", body=b"order" * (method == "POST")))
        while (answer := connection.answer()).status < 200:
            pass
        connection.close()
    assert (answer.status, answer.json["code"]) == (status, code)
    assert time.monotonic() - started < 3
    ended = next(record for record in house.records("access.ended") if record["id"] == answer.value("x-ztproxy-id"))
    assert ended["status"] == status
    assert ended["bytes_in"] == (5 if method == "POST" else 0)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("refusing", 502, "upstream.connect"), ("black-hole", 504, "upstream.timeout")],
)
def test_an_upstream_that_cannot_be_reached(house: WatchedHouse, kind: str, status: int, code: str) -> None:
    started = time.monotonic()
    with house.expecting(*served(code)):
        answer = house.ask(f"GET /{kind}/x")
    assert (answer.status, answer.json["code"]) == (status, code)
    assert (
        str(nobody_listens())[:2] not in answer.json["detail"]
    )  # where an upstream lives is not the caller's business
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("kind", IN_THE_BODY)
def test_a_failure_in_the_body_is_a_cut_and_never_a_complete_answer(house: WatchedHouse, kind: str) -> None:
    code, _ = IN_THE_BODY[kind]
    with house.expecting(*served(code)):
        connection = house.connect().send(house.request(f"GET /{kind}/x"))
        with pytest.raises(EOFError, match="cut inside"):
            connection.answer()
        connection.close()
    assert house.records("access.ended")[-2]["status"] == 200


def test_the_connection_of_the_caller_survives_an_upstream_that_does_not(house: WatchedHouse) -> None:
    connection = house.connect()
    with house.expecting(*served("upstream.closed"), *served("upstream.connect"), *served(), forwarded=1):
        statuses = [
            connection.send(house.request(f"GET {path}")).answer().status
            for path in ("/closing/x", "/refusing/x", "/orders")
        ]
    connection.close()
    assert statuses == [502, 502, 200]


def test_an_idle_connection_that_died_is_replaced_unseen(house: WatchedHouse, faults: dict[str, Any]) -> None:
    upstream: Upstream = faults["recovers"]
    with house.expecting(*served() * 2):
        first = house.ask("GET /recovers/x")
        upstream.cut()
        second = house.ask("GET /recovers/x")
    assert (first.status, second.status, len(upstream.requests)) == (200, 200, 2)


def test_a_post_is_never_sent_twice(house: WatchedHouse, faults: dict[str, Any]) -> None:
    """The upstream ends the kept connection after taking the second order; nobody can know whether it was booked."""
    upstream: Upstream = faults["recovers"]
    taken = len(upstream.requests)
    with house.expecting(*served(), *served("upstream.closed")):
        assert house.ask("GET /recovers/x").status == 200
        upstream.answer = dying(b"")
        answer = house.ask("POST /recovers/x", body=b"order")
        upstream.answer = respond()
    assert answer.status == 502
    assert [request.line[:4] for request in upstream.requests[taken:]] == [b"GET ", b"POST"]


def test_a_client_that_leaves_takes_its_upstream_with_it(house: WatchedHouse, faults: dict[str, Any]) -> None:
    upstream: Upstream = faults["silent"]
    closed = upstream.closed
    with house.expecting(*served("client.closed")):
        connection = house.connect().send(house.request("GET /silent/x"))
        while len(upstream.requests) == 0 or upstream.connections == closed:
            time.sleep(0.01)
        connection.close()
    until = time.monotonic() + 2
    while upstream.closed == closed and time.monotonic() < until:
        time.sleep(0.01)
    assert upstream.closed == closed + 1
