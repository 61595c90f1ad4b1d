"""Addresses, hosts and URLs come out in the one form that requests are compared with."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from ztproxy.config import addresses
from ztproxy.config.addresses import Bind


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:8443", Bind("127.0.0.1", 8443)),
        ("0.0.0.0:0", Bind("0.0.0.0", 0)),
        ("[::1]:8443", Bind("::1", 8443)),
        ("[0:0:0::1]:8443", Bind("::1", 8443)),
    ],
)
def test_bind(written: str, meant: Bind) -> None:
    assert addresses.bind(written) == meant


def test_bind_is_shown_as_it_is_written() -> None:
    assert str(Bind("::1", 8443)) == "[::1]:8443"
    assert str(Bind("127.0.0.1", 8443)) == "127.0.0.1:8443"


@pytest.mark.parametrize("written", ["", ":8443", "[::1]", "127.0.0.1:", "127.0.0.1:+1", "127.0.0.1:8_0", "*:8443"])
def test_bind_is_an_address_and_a_port(written: str) -> None:
    with pytest.raises(PydanticCustomError, match="must be an IP address and a port"):
        addresses.bind(written)


@pytest.mark.parametrize("written", ["10.0.0.0/16", "2001:db8::/32", "0.0.0.0/0", "192.0.2.1/32"])
def test_network(written: str) -> None:
    assert str(addresses.network(written)) == written


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("API.Example.com", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ("_service.example", "_service.example"),
    ],
)
def test_host_pattern_is_canonical(written: str, meant: str) -> None:
    assert addresses.host_pattern(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a.",
        ".a",
        "a..b",
        "-a.example",
        "a:443",
        "*.*",
        "*a.example",
        "a/b",
        "x" * 64,
        "*.[::1]",
        "[::1",
        "[::1]:443",
    ],
)
def test_host_pattern_refuses_what_never_matches(written: str) -> None:
    with pytest.raises(PydanticCustomError, match="must be a host name"):
        addresses.host_pattern(written)


@pytest.mark.parametrize("written", ["[]", "[x]", "[ü]", "[::1]:[::1]", "[10.0.0.1]"])
def test_host_pattern_in_brackets_is_an_address(written: str) -> None:
    with pytest.raises(PydanticCustomError, match="must hold an IPv6 address"):
        addresses.host_pattern(written)


def test_names() -> None:
    assert addresses.server_name("Orders.internal") == "orders.internal"
    assert addresses.certificate_name("*.Admin.example.com") == "*.admin.example.com"


@pytest.mark.parametrize(
    "written",
    ["https://login.example.com", "https://login.example.com/realms/x/", "http://127.0.0.1:9100", "http://[::1]:1/a"],
)
def test_issuer_is_kept_exactly(written: str) -> None:
    assert addresses.issuer_url(written) == written


@pytest.mark.parametrize(
    "written",
    ["https://", "https:login", "https://a b", "https://a\\b", "https://a:0", "file:///a", "https://ä.example"],
)
def test_issuer_is_a_plain_url(written: str) -> None:
    with pytest.raises(PydanticCustomError, match="must be the issuer's URL"):
        addresses.issuer_url(written)


@pytest.mark.parametrize("written", ["https://[::1", "https://a:99999", "https://[v1.a]:x"])
def test_what_cannot_be_taken_apart_is_not_shown(written: str) -> None:
    with pytest.raises(PydanticCustomError, match="must be the issuer's URL") as error:
        addresses.issuer_url(written)
    assert error.value.type == "private"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback(host: str) -> None:
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "::", "example.com", ""])
def test_not_loopback(host: str) -> None:
    assert not addresses.is_loopback(host)


def test_upstream_is_an_origin() -> None:
    for written in ("http://127.0.0.1:9000", "https://orders.internal/", "https://10.1.2.3:8443", "http://[::1]:1"):
        assert addresses.upstream_url(written) == written
