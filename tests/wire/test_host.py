"""One spelling of a host for all ways to write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.errors import ProtocolError
from ztproxy.wire.host import LONGEST_NAME, Authority, canonical_host, parse_authority


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"app.example.com", "app.example.com", None),
        (b"APP.Example.COM", "app.example.com", None),
        (b"app.example.com.", "app.example.com", None),
        (b"app.example.com.:443", "app.example.com", 443),
        (b"app.example.com:", "app.example.com", None),
        (b"app.example.com:00443", "app.example.com", 443),
        (b"localhost:0", "localhost", 0),
        (b"10.1.2.3:65535", "10.1.2.3", 65535),
        (b"app_x.example.com", "app_x.example.com", None),
        (b"xn--pp-7kc.example.com", "xn--pp-7kc.example.com", None),
        (b"0.0.0.0=5000", "0.0.0.0=5000", None),
        (b"[::1]", "[::1]", None),
        (b"[2001:DB8:0:0:0:0:0:1]:8443", "[2001:db8::1]", 8443),
        (b"[::ffff:10.1.2.3]", "10.1.2.3", None),
        (b"[::FFFF:a01:203]:80", "10.1.2.3", 80),
    ],
)
def test_one_spelling(raw: bytes, host: str, port: int | None) -> None:
    assert parse_authority(raw) == Authority(host, port)
    assert canonical_host(raw) == host


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"",
            b".",
            b"..",
            b":",
            b":80",
            b"a..b",
            b".a",
            b"a..",
            b"a.:b",
            b"a:65536",
            b"a:99999",
            b"a:000443",
            b"a:-1",
        ),
        *(
            b"a:80:80",
            b"u@a",
            b"u:p@a",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a b",
            b" a",
            b"a ",
            b"a\tb",
            b"a\x00.b",
            b"a\n",
            b"a\r\n",
        ),
        *(b"\xd0\xb0pp", b"a%2eb", b"*", b"*.a", b"a,b", b"a;b", b"a'b", b"(a)", b'"a"', b"a\\b", b"<a>"),
        *(
            b"[]",
            b"[",
            b"::1",
            b"[::1",
            b"[::1]x",
            b"[::1%25eth0]",
            b"[::1%eth0]",
            b"[v1.a]",
            b"[10.1.2.3]",
            b"[1::2::3]",
        ),
        *(b"a" * 64, b"a." * 127 + b"a"),
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    for reader in (parse_authority, canonical_host):
        with pytest.raises(ProtocolError) as caught:
            reader(raw)
        assert caught.value.code == "protocol.host"


def test_the_longest_name() -> None:
    longest = b".".join([b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61])
    assert len(longest) == LONGEST_NAME
    assert canonical_host(longest + b".") == longest.decode()


@given(st.binary(max_size=40) | st.text(alphabet="aA1.-_:[]@", max_size=20).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_the_result_is_its_own_result(raw: bytes) -> None:
    try:
        host = canonical_host(raw)
    except ProtocolError:
        return
    assert canonical_host(host.encode("ascii")) == host


def test_what_is_remembered_is_bounded() -> None:
    assert parse_authority.cache_parameters()["maxsize"] == canonical_host.cache_parameters()["maxsize"] == 1024
