"""From accept to the first head: whose PROXY header is believed, what breaks a handshake, and every failure told."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.pki import TestAuthority
from tests.fakes.proxy import Connection
from tests.proxy.inside import VPCE, InsideHouse
from tests.proxy.wires import head, soon
from ztproxy.proxy.listener import Binding, Listener
from ztproxy.wire.proxyproto import encode

FAR, NEAR = ("203.0.113.9", 5555), ("10.0.0.1", 443)
Failed = Callable[[], dict[str, Any]]


@pytest.fixture
def failed(house: InsideHouse) -> Failed:
    """The one `connection.failed` since the test began; nothing else was recorded, and nothing went upstream."""
    before = len(house.records())

    def only() -> dict[str, Any]:
        assert soon(lambda: len(house.records()) > before)
        time.sleep(0.05)
        (record,) = house.records()[before:]
        assert record["event"] == "connection.failed"
        assert house.upstream.requests == []
        return record

    return only


def closed(plain: socket.socket, *, seconds: float = 3.0) -> bytes:
    """What is said until the proxy ends the connection."""
    said = b""
    plain.settimeout(seconds)
    with plain, suppress(ConnectionError):
        while data := plain.recv(4096):
            said += data
    return said


def through(house: InsideHouse, preamble: bytes) -> dict[str, Any]:
    """What is recorded of the network when a request comes behind this preamble."""
    connection = house.connect(listener="behind", preamble=preamble)
    answer = connection.send(head("GET", "/")).answer()
    assert answer.status == 200
    network: dict[str, Any] = house.of(answer)[0]["network"]
    return network


def test_every_listener_has_a_port_of_its_own(house: InsideHouse) -> None:
    assert len(set(house.ports.values())) == len(house.configuration["listeners"])


def test_without_a_header_the_peer_is_the_socket(house: InsideHouse) -> None:
    connection = house.connect()
    network = house.of(connection.send(head("GET", "/")).answer())[0]["network"]
    assert network == {
        "alpn": None,
        "balancer": None,
        "listener": "edge",
        "peer": "127.0.0.1",
        "peer_port": connection.socket.getsockname()[1],
        "sni": "localhost",
        "tls": "TLSv1.3",
        "vpce": None,
    }


@pytest.mark.parametrize(
    ("preamble", "peer"),
    [
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 5555 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 5555 443\r\n", "2001:db8::9"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 5555 443\r\n", "203.0.113.9"),
        (encode(source=FAR, destination=NEAR), "203.0.113.9"),
        (encode(source=FAR, destination=NEAR, checksum=True), "203.0.113.9"),
        (encode(source=("2001:db8::9", 5555), destination=("2001:db8::1", 443)), "2001:db8::9"),
        (encode(source=FAR, destination=("2001:db8::1", 443)), "203.0.113.9"),
    ],
    ids=["v1", "v1 ipv6", "v1 mapped", "v2", "v2 with checksum", "v2 ipv6", "v2 mapped"],
)
def test_a_header_from_a_listed_balancer_is_believed(house: InsideHouse, preamble: bytes, peer: str) -> None:
    network = through(house, preamble)
    assert (network["peer"], network["peer_port"], network["balancer"]) == (peer, 5555, "127.0.0.1")
    (request,) = house.upstream.requests
    assert request.values(b"x-forwarded-for") == [peer.encode()]
    node = f'"[{peer}]"' if ":" in peer else peer
    assert request.values(b"forwarded") == [f'for={node};host="open.test";proto=https'.encode()]


def test_a_health_check_of_the_balancer_itself_is_from_the_balancer(house: InsideHouse) -> None:
    for preamble in (encode(), b"PROXY UNKNOWN\r\n"):
        network = through(house, preamble)
        assert (network["peer"], network["balancer"], network["vpce"]) == ("127.0.0.1", None, None)


def test_a_vpc_endpoint_reaches_the_record_and_the_policy(house: InsideHouse) -> None:
    assert through(house, encode(source=FAR, destination=NEAR, vpce_id=VPCE, checksum=True))["vpce"] == VPCE
    for vpce_id, status in ((VPCE, 200), ("vpce-00000000000000000", 403), (None, 403)):
        preamble = encode(source=FAR, destination=NEAR, vpce_id=vpce_id)
        connection = house.connect(listener="behind", preamble=preamble)
        assert connection.send(head("GET", "/", host="vpc.test")).answer().status == status


@pytest.mark.parametrize("apart", [True, False])
def test_a_header_may_come_in_any_pieces(house: InsideHouse, apart: bool) -> None:
    plain = house.raw("behind")
    preamble = encode(source=FAR, destination=NEAR, vpce_id=VPCE)
    for at in range(0, len(preamble), 1 if apart else len(preamble)):
        plain.sendall(preamble[at : at + (1 if apart else len(preamble))])
        time.sleep(0.001)
    connection = Connection(house.context(house.bob).wrap_socket(plain, server_hostname="localhost"))
    house.connections.append(connection)
    assert connection.send(head("GET", "/")).answer().status == 200


DAMAGED: dict[str, tuple[bytes, str]] = {
    "none at all": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no_signature"),
    "bad checksum": (encode(source=FAR, destination=NEAR, checksum=True)[:-1] + b"\xff", "bad_tlv"),
    "empty endpoint": (encode(source=FAR, destination=NEAR, tlvs=((0xEA, b""),)), "bad_tlv"),
    "unix sockets": (encode(source=FAR, destination=NEAR)[:13] + b"\x31\x00\xd8" + bytes(216), "bad_family"),
}


@pytest.mark.parametrize(("preamble", "detail"), DAMAGED.values(), ids=list(DAMAGED))
def test_a_header_that_is_none_or_damaged_ends_the_connection_without_a_word(
    house: InsideHouse, failed: Failed, preamble: bytes, detail: str
) -> None:
    plain = house.raw("behind")
    port = plain.getsockname()[1]
    plain.sendall(preamble)
    assert closed(plain) == b""
    record = failed()
    assert (record["code"], record["listener"], record["peer"]) == ("protocol.proxy-header", "behind", "127.0.0.1")
    assert (record["detail"].partition(":")[0], record["peer_port"]) == (detail, port)


def test_a_client_hello_where_a_header_must_come_is_refused(house: InsideHouse, failed: Failed) -> None:
    with pytest.raises(OSError, match=r"EOF|reset|UNEXPECTED"):
        house.connect(listener="behind")
    assert failed()["code"] == "protocol.proxy-header"


def test_a_header_from_anyone_else_ends_the_connection(house: InsideHouse, failed: Failed) -> None:
    plain = house.raw("astray")
    plain.sendall(encode(source=("10.0.0.7", 1), destination=NEAR))
    assert closed(plain) == b""
    record = failed()
    assert (record["code"], record["detail"]) == ("protocol.proxy-header", "untrusted source")
    assert record["peer"] == "127.0.0.1"


def test_a_header_where_none_is_taken_breaks_the_handshake(house: InsideHouse, failed: Failed) -> None:
    with pytest.raises(OSError, match=r"."):
        house.connect(preamble=encode(source=FAR, destination=NEAR))
    assert failed()["code"] == "protocol.tls"


def test_a_peer_that_leaves_inside_the_header_is_recorded(house: InsideHouse, failed: Failed) -> None:
    plain = house.raw("behind")
    plain.sendall(encode(source=FAR, destination=NEAR)[:20])
    plain.shutdown(socket.SHUT_WR)
    assert closed(plain) == b""
    assert (failed()["code"], failed()["detail"]) == ("protocol.proxy-header", "incomplete")


def test_plain_text_stuffed_behind_the_header_enters_no_session(house: InsideHouse, failed: Failed) -> None:
    plain = house.raw("behind")
    plain.sendall(encode(source=FAR, destination=NEAR) + head("GET", "/stuffed"))
    assert b"HTTP/1" not in closed(plain)
    record = failed()
    assert (record["code"], record["peer"]) == ("protocol.tls", "203.0.113.9")


@pytest.mark.parametrize("listener", ["hasty", "behind-hasty"])
def test_a_peer_that_says_nothing_is_closed_in_time(house: InsideHouse, failed: Failed, listener: str) -> None:
    plain = house.raw(listener)
    started = time.monotonic()
    assert closed(plain) == b""
    assert 0.4 < time.monotonic() - started < 2
    assert (failed()["code"], failed()["listener"]) == ("protocol.deadline", listener)


def test_the_deadline_is_one_over_all_of_it(house: InsideHouse, failed: Failed) -> None:
    """Every phase in time does not make the whole in time (S18)."""
    plain = house.raw("behind-hasty")
    started = time.monotonic()
    preamble = encode(source=FAR, destination=NEAR)
    plain.sendall(preamble[:10])
    time.sleep(0.3)
    plain.sendall(preamble[10:])
    assert closed(plain) == b""
    assert time.monotonic() - started < 0.75
    assert (failed()["code"], failed()["peer"]) == ("protocol.deadline", "203.0.113.9")


def test_the_first_head_has_what_the_handshake_left_of_it(house: InsideHouse) -> None:
    plain = house.raw("behind-hasty")
    plain.sendall(encode(source=FAR, destination=NEAR))
    time.sleep(0.3)
    started = time.monotonic()
    connection = Connection(house.context(house.bob).wrap_socket(plain, server_hostname="localhost"))
    assert connection.send(b"GET / HT").answer().status == 408
    assert time.monotonic() - started < 0.2 + 0.25 + 0.2  # what is left, a sweep, and some grace
    connection.close()


def old_tls(house: InsideHouse, _: Path) -> ssl.SSLContext:
    context = house.context(house.bob)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def stranger(house: InsideHouse, folder: Path) -> ssl.SSLContext:
    return house.context(TestAuthority(folder, "staff").issue("bob"))


def nobody(house: InsideHouse, _: Path) -> ssl.SSLContext:
    return house.context(None)


@pytest.mark.parametrize(
    ("make", "code"), [(old_tls, "protocol.tls"), (stranger, "protocol.certificate"), (nobody, "protocol.certificate")]
)
def test_a_handshake_that_fails_is_recorded(
    house: InsideHouse,
    failed: Failed,
    tmp_path: Path,
    make: Callable[[InsideHouse, Path], ssl.SSLContext],
    code: str,
) -> None:
    context = make(house, tmp_path)
    with (
        suppress(ssl.SSLError, ConnectionError),
        context.wrap_socket(house.raw("strict"), server_hostname="localhost") as client,
    ):
        client.sendall(head("GET", "/"))
        assert client.recv(1) == b""
    record = failed()
    assert (record["code"], record["listener"]) == (code, "strict")
    assert record["detail"]


def test_who_speaks_no_tls_is_recorded_and_told_nothing(house: InsideHouse, failed: Failed) -> None:
    plain = house.raw()
    plain.sendall(head("GET", "/"))
    assert b"HTTP/1" not in closed(plain)
    assert failed()["code"] == "protocol.tls"


def test_a_peer_that_leaves_in_the_handshake_is_recorded(house: InsideHouse, failed: Failed) -> None:
    plain = house.raw()
    plain.sendall(b"\x16\x03\x01\x02\x00\x01")
    time.sleep(0.05)
    plain.close()
    assert failed()["code"] == "protocol.tls"


def test_a_bug_before_the_handshake_is_recorded_as_ours(
    house: InsideHouse, failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ztproxy.wire.proxyproto.decode", broken)
    plain = house.raw("behind")
    plain.sendall(encode(source=FAR, destination=NEAR))
    assert closed(plain) == b""
    assert (failed()["code"], failed()["detail"]) == ("internal", "ZeroDivisionError()")


def test_others_are_served_while_one_fails(house: InsideHouse) -> None:
    silent = [house.raw(name) for name in ("edge", "behind", "strict")]
    assert house.get().status == 200
    for each in silent:
        each.close()


@contextmanager
def no_more_files() -> Iterator[None]:
    """A process that has opened all it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    holes = []
    while (hole := os.dup(0)) <= highest:
        holes.append(hole)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hole, before[1]))
    os.close(hole)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in holes:
            os.close(each)


def test_out_of_descriptors_it_waits_and_goes_on(house: InsideHouse) -> None:
    standing = house.connect()
    assert standing.send(head("GET", "/")).answer().status == 200
    waiting = socket.socket()
    waiting.settimeout(10)
    with no_more_files():
        waiting.connect(("127.0.0.1", house.ports["edge"]))
        time.sleep(0.1)
        assert standing.send(head("GET", "/")).answer().status == 200
    connection = Connection(house.context(house.bob).wrap_socket(waiting, server_hostname="localhost"))
    assert connection.send(head("GET", "/")).answer().status == 200
    connection.close()


def test_a_taken_address_is_named(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        loop = loop_factory()
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            Listener(Binding(host="127.0.0.1", port=port), loop)
        loop.close()


def test_it_may_be_stopped_before_it_started_and_again(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = loop_factory()
    listener = Listener(Binding(host="127.0.0.1", port=0), loop)
    port = listener.port
    listener.stop()
    listener.stop()
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    loop.close()
