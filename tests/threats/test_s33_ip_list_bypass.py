"""S33: one client address has one text, however a balancer or a socket writes it, so no list is slipped past."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import pytest

from ztproxy.errors import ProtocolError
from ztproxy.wire.proxyproto import canonical_address, decode, encode

CLIENT = "10.1.2.3"
LISTED = ip_network("10.0.0.0/8")
MAPPED = ("::ffff:10.1.2.3", "::FFFF:a01:203", "0:0:0:0:0:ffff:0a01:0203", "::ffff:0a01:0203")


@pytest.mark.parametrize("text", [CLIENT, *MAPPED])
def test_a_mapped_socket_peer_is_its_ipv4_address(text: str) -> None:
    assert canonical_address(text) == CLIENT
    assert ip_address(canonical_address(text)) in LISTED


@pytest.mark.parametrize("text", MAPPED)
def test_a_mapped_address_in_a_proxy_header_is_its_ipv4_address(text: str) -> None:
    packed = IPv6Address(text)
    v2 = decode(encode(source=(str(packed), 40000), destination=("2001:db8::1", 443)))
    v1 = decode(f"PROXY TCP6 {text} 2001:db8::1 40000 443\r\n".encode("ascii"))
    assert [v2.family, v1.family] == ["inet6", "inet6"]
    assert [v2.source, v1.source] == [CLIENT, CLIENT]


@pytest.mark.parametrize(
    "text", ["010.1.2.3", "10.1.515", "0xa.1.2.3", "167838211", "10.1.2.3%eth0", "fe80::1%eth0", " 10.1.2.3"]
)
def test_an_address_only_some_readers_understand_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_address(text)
    with pytest.raises(ProtocolError):
        decode(f"PROXY TCP4 {text} 10.9.8.7 40000 443\r\n".encode("ascii"))
    with pytest.raises(ProtocolError):
        decode(f"PROXY TCP6 {text} ::1 40000 443\r\n".encode("ascii"))


def test_an_ipv6_address_that_only_looks_similar_stays_one() -> None:
    for text in ("::10.1.2.3", "64:ff9b::a01:203", "::fffe:a01:203", "2002:a01:203::"):
        assert ip_address(canonical_address(text)).version == 6
