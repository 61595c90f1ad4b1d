"""S18: whichever phase a client or an upstream stalls in, one deadline ends it, and nobody else waits for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes.upstream import Received, Upstream
from tests.fakes.watch import NOBODY, WatchedHouse, failed, refused, served
from ztproxy.wire.proxyproto import encode

DEADLINE_S = 1.0
SLACK_S = 1.0
"""The sweep's quarter of a second, and a busy machine."""


def endless(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """An answer larger than all buffers between here and there."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
    block = b"x" * 1_000_000
    for _step in range(400):
        connection.sendall(block)
    return True


def dripping(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """An answer that always goes on, and never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _step in range(1000):
        time.sleep(0.1)
        connection.sendall(b".")
    return True


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    faults = {"endless": Upstream(answer=endless), "dripping": Upstream(answer=dripping)}

    def change(configuration: dict[str, Any]) -> None:
        edge = configuration["listeners"][0]
        edge["timeouts"] = {"pre_auth_s": DEADLINE_S, "idle_s": 30}
        header = {"mode": "required", "trusted": ["127.0.0.1/32"]}
        configuration["listeners"].append({**edge, "name": "nlb", "proxy_protocol": header})
        configuration["listeners"].append(
            {**edge, "name": "resting", "timeouts": {"pre_auth_s": 30, "idle_s": DEADLINE_S}}
        )
        general = configuration["routes"][0]
        timeouts = {"response_s": 30, "total_s": DEADLINE_S}
        for name, upstream in faults.items():
            url = {"url": f"http://127.0.0.1:{upstream.port}"}
            configuration["routes"].append(
                {**general, "name": name, "path": f"/{name}/**", "upstream": url, "timeouts": timeouts}
            )
        configuration["routes"].append({**general, "name": "total", "path": "/total/**", "timeouts": timeouts})
        slow = {"response_s": DEADLINE_S, "total_s": 30}
        configuration["routes"].append({**general, "name": "slow", "path": "/slow/**", "timeouts": slow})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()
        for upstream in faults.values():
            upstream.close()


def closed_after(connection: socket.socket, drip: Callable[[], bytes] = lambda: b"") -> float:
    """Seconds until the proxy ends a connection on which one byte after the other is sent."""
    started = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - started < 10:
        try:
            with suppress(TimeoutError):
                if not connection.recv(65536):
                    break
            connection.sendall(drip())
        except OSError:
            break
    return time.monotonic() - started


CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)


@pytest.mark.parametrize(
    ("listener", "start", "code"),
    [
        pytest.param("edge", b"", "protocol.deadline", id="nothing"),
        pytest.param("edge", b"\x16", "protocol.deadline", id="one-byte-of-tls"),
        pytest.param("edge", CLIENT_HELLO[:100], "protocol.deadline", id="half-a-hello"),
        pytest.param("nlb", b"", "protocol.deadline", id="nothing-for-a-header"),
        pytest.param("nlb", encode()[:12], "protocol.deadline", id="half-a-header"),
        pytest.param("nlb", encode(), "protocol.deadline", id="nothing-behind-the-header"),
        pytest.param("nlb", encode() + CLIENT_HELLO[:100], "protocol.deadline", id="half-a-hello-behind-the-header"),
        pytest.param("nlb", CLIENT_HELLO[:100], "protocol.proxy-header", id="no-header"),
    ],
)
def test_before_the_handshake_is_over(house: WatchedHouse, listener: str, start: bytes, code: str) -> None:
    with house.expecting(failed(code)), house.raw(listener) as plain:
        plain.sendall(start)
        assert closed_after(plain) < DEADLINE_S + SLACK_S


def test_a_handshake_that_drips_has_the_same_deadline(house: WatchedHouse) -> None:
    hello = iter(CLIENT_HELLO)
    with house.expecting(failed("protocol.deadline")), house.raw() as plain:
        assert DEADLINE_S / 2 < closed_after(plain, lambda: bytes((next(hello),))) < DEADLINE_S + SLACK_S


def test_the_deadline_is_one_over_all_phases(house: WatchedHouse) -> None:
    """A handshake that takes most of it leaves the head only the rest."""
    with house.expecting(refused("protocol.deadline")):
        plain = house.raw()
        started = time.monotonic()
        time.sleep(DEADLINE_S * 0.7)
        connection = house.context(house.bob).wrap_socket(plain, server_hostname="localhost")
        connection.sendall(b"GET / HTTP/1.1\r\n")
        closed_after(connection)
        assert time.monotonic() - started < DEADLINE_S + SLACK_S * 0.6
        connection.close()


def test_silence_behind_the_handshake_is_closed(house: WatchedHouse) -> None:
    with house.expecting():
        connection = house.dial(NOBODY)
        assert DEADLINE_S / 2 < closed_after(connection.socket) < DEADLINE_S + SLACK_S
        connection.close()


def test_a_head_that_drips_is_answered_408(house: WatchedHouse) -> None:
    with house.expecting(refused("protocol.deadline")):
        connection = house.connect().send(b"GET /orders HTTP/1.1\r\nX: ")
        started = time.monotonic()
        connection.socket.settimeout(0.1)
        while time.monotonic() - started < 10:
            try:
                connection.send(b"x")
                answer = connection.answer()
                break
            except TimeoutError:
                continue
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert (answer.status, answer.json["code"]) == (408, "protocol.deadline")
        connection.close()


def test_a_head_that_drips_on_an_old_connection_has_the_same_deadline(house: WatchedHouse) -> None:
    with house.expecting(*served(), refused("protocol.deadline"), forwarded=1):
        connection = house.connect()
        assert connection.send(house.request()).answer().status == 200
        time.sleep(DEADLINE_S * 0.5)
        connection.send(b"GET /orders HTTP/1.1\r\nX: ")
        assert closed_after(connection.socket, lambda: b"x") < DEADLINE_S + SLACK_S
        connection.close()


def test_a_resting_connection_is_closed(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        connection = house.connect(listener="resting")
        assert connection.send(house.request()).answer().status == 200
        assert DEADLINE_S / 2 < closed_after(connection.socket) < DEADLINE_S + SLACK_S
        connection.close()


def test_a_body_that_stalls_is_answered_408(house: WatchedHouse) -> None:
    with house.expecting(*served("protocol.body-timeout")):
        connection = house.connect().send(house.request("POST /slow/x", "Content-Length: 100") + b"begun")
        started = time.monotonic()
        answer = connection.answer()
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert (answer.status, answer.json["code"]) == (408, "protocol.body-timeout")
        connection.close()


def test_a_body_that_drips_ends_with_the_grant(house: WatchedHouse) -> None:
    with house.expecting(*served("upstream.timeout")):
        connection = house.connect().send(house.request("POST /total/x", "Content-Length: 100000"))
        assert closed_after(connection.socket, lambda: b"x") < DEADLINE_S + 2 * SLACK_S
        connection.close()


def test_an_answer_that_drips_ends_with_the_grant(house: WatchedHouse) -> None:
    with house.expecting(*served("grant.expired")):
        connection = house.connect().send(house.request("GET /dripping/x"))
        assert DEADLINE_S / 2 < closed_after(connection.socket) < DEADLINE_S + SLACK_S
        connection.close()


def test_a_client_that_does_not_read_is_cut(house: WatchedHouse) -> None:
    ended = len(house.records("access.ended"))
    with house.expecting(*served("grant.expired")):
        connection = house.connect().send(house.request("GET /endless/x"))
        # Two: the bystander's, and then this one's.
        found = house.wait_records("access.ended", ended + 2, seconds=DEADLINE_S + SLACK_S)
        connection.close()
    assert found[-1]["code"] == "grant.expired"


def test_a_client_that_goes_on_after_the_end_is_cut(house: WatchedHouse) -> None:
    """The proxy has said `Connection: close` and ended its side; the client neither ends its own nor falls silent."""
    with house.expecting(*served(), forwarded=1):
        connection = house.connect().send(house.request("GET /orders", "Connection: close"))
        assert connection.answer().status == 200
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 20:
                connection.send(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 8
        connection.close()
