"""Request heads: what a strict reader takes, and what it refuses with which code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztproxy.errors import ProtocolError
from ztproxy.wire import fields, http
from ztproxy.wire.http import RequestHead, forward_fields, read_head, read_line


def head(*lines: bytes, request: bytes = b"GET /orders/42?limit=10 HTTP/1.1") -> bytes:
    return b"\r\n".join((request, *lines, b"", b""))


HOST = b"Host: api.example.com"


def code_of(raw: bytes) -> str:
    with pytest.raises(ProtocolError) as refused:
        read_head(raw)
    return refused.value.code


def test_reads_a_plain_request() -> None:
    got = read_head(
        head(HOST, b"User-Agent: curl/8", b"Referer: https://a/", b"Accept: */*", b"Authorization: Bearer x")
    )
    assert (got.method, got.raw_target, got.host, got.minor) == ("GET", b"/orders/42?limit=10", b"api.example.com", 1)
    assert (got.user_agent, got.referer, got.authorization) == (b"curl/8", b"https://a/", b"Bearer x")
    assert not got.has_body
    assert not got.close
    assert got.first(b"accept") == b"*/*"
    assert got.first(b"absent") is None


def test_forwards_neither_credentials_nor_claims_nor_hops() -> None:
    got = read_head(
        head(
            HOST,
            b"Accept: */*",
            b"Authorization: Bearer x",
            b"X-Amz-Date: 20150830T123600Z",
            b"X_Forwarded_For: 10.0.0.1",
            b"X-Ztproxy-Subject: root",
            b"Connection: X-Debug, keep-alive, upgrade,",
            b"X-Debug: 1",
            b"Upgrade: h2c",
            b"User-Agent: curl/8",
        )
    )
    assert forward_fields(got) == b"Accept: */*\r\nUser-Agent: curl/8\r\n"
    assert forward_fields(read_head(head(HOST, b"A: 1", b"a: 2"))) == b"A: 1\r\na: 2\r\n"


def test_lengths_and_codings() -> None:
    counted = read_head(head(HOST, b"Content-Length: 5", request=b"POST / HTTP/1.1"))
    assert (counted.length, counted.chunked, counted.has_body) == (5, False, True)
    empty = read_head(head(HOST, b"Content-Length: 0", request=b"POST / HTTP/1.1"))
    assert (empty.length, empty.has_body) == (0, False)
    chunked = read_head(head(HOST, b"Transfer-Encoding: Chunked", request=b"POST / HTTP/1.1"))
    assert chunked.chunked
    assert chunked.has_body


def test_expectation_and_persistence() -> None:
    waiting = read_head(head(HOST, b"Expect: 100-Continue", b"Content-Length: 1", request=b"PUT / HTTP/1.1"))
    assert waiting.expect_continue
    assert read_head(head(HOST, b"Connection: close")).close
    old = read_head(head(HOST, b"Expect: 100-continue", request=b"GET / HTTP/1.0"))
    assert (old.minor, old.close, old.expect_continue) == (0, True, False)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (head(), "protocol.host"),
        (head(HOST, HOST), "protocol.host"),
        (head(HOST, b"Content-Length: 5", b"Content-Length: 5"), "protocol.framing"),
        (head(HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked"), "protocol.framing"),
        (head(HOST, b"Transfer-Encoding: chunked", b"Content-Length: 5"), "protocol.framing"),
        (head(HOST, b"Content-Length: +5"), "protocol.framing"),
        (head(HOST, b"Content-Length: 5, 5"), "protocol.framing"),
        (head(HOST, b"Content-Length: 1234567890123456789"), "protocol.framing"),
        (head(HOST, b"Content-Length:"), "protocol.framing"),
        (head(HOST, b"Transfer-Encoding: gzip, chunked"), "protocol.framing"),
        (head(HOST, b"Transfer-Encoding: identity"), "protocol.framing"),
        (head(HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "protocol.framing"),
        (head(HOST, b"Transfer-Encoding: chunked", request=b"POST / HTTP/1.0"), "protocol.framing"),
        (head(HOST, b"Expect: 200-ok"), "protocol.expect"),
        (head(HOST, b"Authorization: Bearer a", b"Authorization: Bearer b"), "protocol.head"),
        (head(HOST, b"Connection: X-Ztproxy-Subject"), "protocol.hop"),
        (head(HOST, b"Connection: close, X_Forwarded_For"), "protocol.hop"),
        (head(HOST, b"Connection: Authorization"), "protocol.hop"),
        (head(HOST, b"Folded: a", b" b"), "protocol.head"),
        (head(HOST, b"Space : a"), "protocol.head"),
        (head(HOST, b"Null: a\x00b"), "protocol.head"),
        (head(HOST, b"Control: a\x01b"), "protocol.head"),
        (head(HOST, b"Delete: a\x7fb"), "protocol.head"),
        (head(HOST, b"Bare: a\rb"), "protocol.head"),
        (head(HOST, b"Bare: a\nb: c"), "protocol.head"),
        (head(HOST, b"no colon"), "protocol.head"),
        (head(HOST, request=b"GET  / HTTP/1.1"), "protocol.head"),
        (head(HOST, request=b"GET /\tHTTP/1.1"), "protocol.head"),
        (head(HOST, request=b"GET / HTTP/2.0"), "protocol.head"),
        (head(HOST, request=b"GET / HTTP/1.2"), "protocol.head"),
        (head(HOST, request=b"GET / http/1.1"), "protocol.head"),
        (head(HOST, request=b"GET /"), "protocol.head"),
        (head(HOST, request=b"FROB / HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"\x00GET / HTTP/1.1"), "protocol.head"),
        (head(HOST, request=b" GET / HTTP/1.1"), "protocol.head"),
        (head(HOST, request=b"get / HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"TRACE / HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"SUBSCRIBE / HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"CONNECT a:443 HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"CONNECT /x HTTP/1.1"), "protocol.method"),
        (head(HOST, request=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), "protocol.target-size"),
        (head(HOST, b"Big: " + b"a" * 16385), "protocol.head-size"),
        (head(HOST, *(b"X-%d: 1" % i for i in range(100))), "protocol.head-size"),
    ],
)
def test_refuses(raw: bytes, code: str) -> None:
    assert code_of(raw) == code


def test_limits_are_met_exactly() -> None:
    assert len(read_head(head(HOST, request=b"GET /" + b"a" * 8191 + b" HTTP/1.1")).raw_target) == 8192
    assert read_head(head(HOST, b"Big: " + b"a" * 16384, b"B: 1")).first(b"b") == b"1"
    assert len(read_head(head(HOST, *(b"X-%d: 1" % i for i in range(99)))).raw_headers) == 100


def test_an_offer_to_upgrade_is_ignored() -> None:
    got = read_head(head(HOST, b"Connection: Upgrade", b"Upgrade: websocket"))
    assert isinstance(got, RequestHead)
    assert forward_fields(got) == b""


@given(st.binary(max_size=120))
def test_garbage_ends_in_a_verdict(noise: bytes) -> None:
    for raw in (noise + b"\r\n\r\n", head(HOST, noise), head(HOST, b"X: " + noise)):
        try:
            got = read_head(raw)
        except ProtocolError:
            continue
        assert not set(forward_fields(got)) & {0, 11, 12, 127}


def test_own_checks_hold_where_the_parser_is_lenient() -> None:
    """llhttp refuses these first today; the checks behind it must not depend on that."""
    repeated = RequestHead(length=5)
    with pytest.raises(ProtocolError, match="ambiguous"):
        http._look_at(repeated, fields.LENGTH, b"5")
    both = RequestHead(raw_headers=[(b"Host", b"a"), (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")])
    with pytest.raises(ProtocolError, match="ambiguous"):
        http._classify(both, b"POST")
    with pytest.raises(ProtocolError, match="supported"):
        http._classify(RequestHead(), b"FROB")
    assert http._refusal(b"GET  / HTTP/1.1\r\n\r\n", "").detail.startswith("the request line")
    assert http._refusal(b"CONNECT a HTTP/1.1\r\n\r\n", "").code == "protocol.method"


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT", b"FROB", b"get", b"TRACE", b"PROPPATCH"])
@pytest.mark.parametrize(
    "target", [b"/", b"/a?b=c", b"/%2e", b"*", b"http://a/b", b"/a b", b"/\xc3", b"/a\x00", b"/a\tb"]
)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1"])
def test_the_short_way_reads_a_line_as_the_long_one_does(method: bytes, target: bytes, version: bytes) -> None:
    line = b"%b %b %b\r\n" % (method, target, version)
    short = read_line(line)
    if short is not None:
        long = read_head(line + HOST + b"\r\n\r\n")
        assert (long.method, long.raw_target, long.minor) == (*short, 1)


def test_the_short_way_leaves_long_lines_to_the_long_one() -> None:
    assert read_line(b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n") is None
    assert read_line(b"GET /a HTTP/1.1\r\n") == ("GET", b"/a")
