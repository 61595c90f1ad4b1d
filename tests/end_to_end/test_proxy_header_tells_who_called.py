"""Behind a balancer the PROXY header says who called and through which VPC endpoint; the policy judges by it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.proxy import Connection
from tests.fakes.tokens import ISSUER
from tests.fakes.watch import WatchedHouse, failed, refused, served
from ztproxy.wire.proxyproto import TLV_AWS, encode

CALLER, BALANCER = ("192.0.2.7", 40007), ("10.0.0.9", 8443)
CALLER6, BALANCER6 = ("2001:db8::7", 40007), ("2001:db8::9", 8443)
ENDPOINT = "vpce-0123456789abcdef0"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Federated": ISSUER},
            "Action": "execute-api:Invoke",
            "Resource": f"execute-api:/prod/GET/{sid}",
            "Condition": condition,
        }
        for sid, condition in {
            "endpoint": {"StringEquals": {"aws:SourceVpce": ENDPOINT, "aws:SourceVpc": "vpc-0a1b2c3d"}},
            "inside": {"IpAddress": {"aws:VpcSourceIp": "192.0.2.0/24"}, "Null": {"aws:SourceIp": "true"}},
            "outside": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "Null": {"aws:VpcSourceIp": "true"}},
            "six": {"IpAddress": {"aws:SourceIp": "2001:db8::/32"}},
            "itself": {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}},
            "bystander": {"Bool": {"aws:SecureTransport": "true"}},
        }.items()
    ],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        configuration["policy"] = POLICY
        configuration["network"] = {"vpc_endpoints": {ENDPOINT: {"vpc": "vpc-0a1b2c3d", "account": "444455556666"}}}
        edge = configuration["listeners"][0]
        for name, trusted in (("nlb", "127.0.0.0/8"), ("unlisted", "10.0.0.0/8")):
            header = {"mode": "required", "trusted": [trusted]}
            timeouts = {"pre_auth_s": 1}
            configuration["listeners"].append({**edge, "name": name, "proxy_protocol": header, "timeouts": timeouts})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


def ask(house: WatchedHouse, path: str, preamble: bytes, *, listener: str = "nlb") -> int:
    connection = house.connect(listener=listener, preamble=preamble)
    return house.ask_on(connection, house.request(f"GET {path}")).status


PLAIN = encode(source=CALLER, destination=BALANCER)
THROUGH = encode(source=CALLER, destination=BALANCER, vpce_id=ENDPOINT, checksum=True)


@pytest.mark.parametrize(
    ("path", "preamble"),
    [
        ("/endpoint", THROUGH),
        ("/inside", THROUGH),
        ("/outside", PLAIN),
        ("/outside", encode(source=CALLER, destination=BALANCER, checksum=True)),
        ("/outside", b"PROXY TCP4 192.0.2.7 10.0.0.9 40007 8443\r\n"),
        ("/outside", encode(source=("::ffff:192.0.2.7", 40007), destination=BALANCER6)),
        ("/six", encode(source=CALLER6, destination=BALANCER6)),
        ("/six", b"PROXY TCP6 2001:db8::7 2001:db8::9 40007 8443\r\n"),
        ("/itself", encode()),
        ("/itself", b"PROXY UNKNOWN\r\n"),
    ],
)
def test_the_policy_sees_the_caller_behind_the_balancer(house: WatchedHouse, path: str, preamble: bytes) -> None:
    with house.expecting(*served(), forwarded=1):
        assert ask(house, path, preamble) == 200


@pytest.mark.parametrize(
    ("path", "preamble"),
    [
        ("/endpoint", PLAIN),
        ("/endpoint", encode(source=CALLER, destination=BALANCER, vpce_id="vpce-0123456789abcdef1")),
        ("/endpoint", encode(source=CALLER, destination=BALANCER, tlvs=((TLV_AWS, b"\x02" + ENDPOINT.encode()),))),
        ("/outside", THROUGH),
        ("/outside", encode()),
        ("/inside", PLAIN),
        ("/itself", PLAIN),
        ("/six", PLAIN),
    ],
)
def test_another_way_in_is_denied(house: WatchedHouse, path: str, preamble: bytes) -> None:
    with house.expecting(refused("authz.denied-implicit")):
        assert ask(house, path, preamble) == 403


def test_record_and_upstream_name_the_caller_and_the_balancer(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        ask(house, "/endpoint", THROUGH)
    network = house.records("access.decided")[-2]["network"]
    assert (network["peer"], network["peer_port"], network["balancer"], network["vpce"]) == (
        *CALLER,
        "127.0.0.1",
        ENDPOINT,
    )
    assert house.upstream.requests[-2].values(b"x-forwarded-for") == [b"192.0.2.7"]


def test_a_header_byte_by_byte_is_the_same_header(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        plain = house.raw("nlb")
        for byte in THROUGH:
            plain.send(bytes((byte,)))
            time.sleep(0.001)
        connection = Connection(house.context(house.bob).wrap_socket(plain, server_hostname="localhost"))
        assert house.ask_on(connection, house.request("GET /endpoint")).status == 200


BAD: dict[str, bytes] = {
    "aws-tlv-without-an-id": encode(source=CALLER, destination=BALANCER, tlvs=((TLV_AWS, b"\x01"),)),
    "aws-tlv-empty": encode(source=CALLER, destination=BALANCER, tlvs=((TLV_AWS, b""),)),
    "aws-tlv-of-no-endpoint": encode(source=CALLER, destination=BALANCER, tlvs=((TLV_AWS, b"\x01vpce-XYZ"),)),
    "aws-tlv-twice": encode(
        source=CALLER,
        destination=BALANCER,
        vpce_id=ENDPOINT,
        tlvs=((TLV_AWS, b"\x01vpce-0123456789abcdef1"),),
    ),
    "bad-checksum": THROUGH.replace(b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x08"),
    "tlv-past-the-end": encode(source=CALLER, destination=BALANCER, tlvs=((0x04, b"x" * 8),)).replace(
        b"\x04\x00\x08", b"\x04\x00\x09"
    ),
    "version-3": PLAIN[:12] + b"\x31" + PLAIN[13:],
    "unix": PLAIN[:13] + b"\x31" + b"\x00\xd8" + bytes(216),
    "too-large": PLAIN[:14] + b"\xff\xff" + bytes(2000),
    "v1-leading-zero": b"PROXY TCP4 192.0.2.07 10.0.0.9 40007 8443\r\n",
    "v1-bare-lf": b"PROXY TCP4 192.0.2.7 10.0.0.9 40007 8443\n",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def closed_without_a_word(plain: socket.socket) -> bool:
    try:
        return plain.recv(4096) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_header_closes_the_connection(house: WatchedHouse, kind: str) -> None:
    assert BAD[kind] not in (PLAIN, THROUGH)
    with house.expecting(failed("protocol.proxy-header")), house.raw("nlb") as plain:
        plain.sendall(BAD[kind])
        assert closed_without_a_word(plain)


def test_no_header_where_one_is_required(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.proxy-header")), pytest.raises((ssl.SSLError, ConnectionError)):
        house.connect(listener="nlb")


def test_a_header_that_never_ends_runs_into_the_deadline(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.deadline")), house.raw("nlb") as plain:
        plain.sendall(THROUGH[:-1])
        started = time.monotonic()
        assert closed_without_a_word(plain)
    assert 0.5 < time.monotonic() - started < 3


def test_a_header_cut_short_is_recorded(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.proxy-header")), house.raw("nlb") as plain:
        plain.sendall(THROUGH[:20])


@pytest.mark.parametrize("listener", ["edge", "unlisted"])
def test_a_header_nobody_asked_for_is_not_believed(house: WatchedHouse, listener: str) -> None:
    code = "protocol.tls" if listener == "edge" else "protocol.proxy-header"
    with house.expecting(failed(code)), pytest.raises((ssl.SSLError, ConnectionError)):
        house.connect(listener=listener, preamble=THROUGH)
    assert house.records("connection.failed")[-1]["peer"] == "127.0.0.1"


def test_a_second_header_behind_the_first_breaks_the_handshake(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.tls")), pytest.raises((ssl.SSLError, ConnectionError)):
        house.connect(listener="nlb", preamble=PLAIN + THROUGH)
    assert house.records("connection.failed")[-1]["peer"] == CALLER[0]


def test_a_request_stuffed_behind_the_header_breaks_the_handshake(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.tls")), pytest.raises((ssl.SSLError, ConnectionError)):
        house.connect(listener="nlb", preamble=PLAIN + house.request("GET /outside"))
