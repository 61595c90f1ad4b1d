"""Response heads from an upstream that may be hostile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztproxy.errors import UpstreamError
from ztproxy.wire import response
from ztproxy.wire.response import Framing, read_response


def raw(status: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((status, *lines, b"", b""))


OK = b"HTTP/1.1 200 OK"


def test_counted() -> None:
    head = read_response(raw(OK, b"Server: up", b"Content-Length: 5", b"Set-Cookie:  a=b \t"), "GET")
    assert (head.status, head.framing, head.length, head.keep) == (200, Framing.COUNTED, 5, True)
    assert head.fields == b"Server: up\r\nSet-Cookie: a=b\r\n"


@pytest.mark.parametrize(
    ("status", "lines", "method", "framing", "keep", "declared"),
    [
        (OK, [b"Content-Length: 0"], "GET", Framing.NONE, True, 0),
        (OK, [b"Transfer-Encoding: chunked"], "GET", Framing.CHUNKED, True, None),
        (OK, [], "GET", Framing.CLOSE, False, None),
        (OK, [b"Content-Length: 9"], "HEAD", Framing.NONE, True, 9),
        (OK, [b"Transfer-Encoding: chunked"], "HEAD", Framing.NONE, True, None),
        (b"HTTP/1.1 304 Not Modified", [b"Content-Length: 9"], "GET", Framing.NONE, True, 9),
        (b"HTTP/1.1 204 No Content", [b"Content-Length: 0"], "GET", Framing.NONE, True, None),
        (b"HTTP/1.1 100", [], "POST", Framing.NONE, True, None),
        (OK, [b"Content-Length: 1", b"Connection: x, Close"], "GET", Framing.COUNTED, False, 1),
        (OK, [b"Content-Length: 1", b"Connection: keep-alive", b"Keep-Alive: 5"], "GET", Framing.COUNTED, True, 1),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 1"], "GET", Framing.COUNTED, False, 1),
        (b"HTTP/1.1 200", [b"Content-Length: 1"], "GET", Framing.COUNTED, True, 1),
    ],
)
def test_framing(
    status: bytes, lines: list[bytes], method: str, framing: Framing, keep: bool, declared: int | None
) -> None:
    head = read_response(raw(status, *lines), method)
    assert (head.framing, head.keep, head.declared_length) == (framing, keep, declared)


def test_fields_that_stay_behind() -> None:
    answer = raw(OK, b"Date: x", b"X-Hop: 1", b"X-Ztproxy-Id: forged", b"Connection: X-Hop, keep-alive", b"A: 1")
    head = read_response(answer, "GET")
    assert (head.fields, head.dated) == (b"Date: x\r\nA: 1\r\n", True)
    assert not read_response(raw(OK, b"X-Date: x"), "GET").dated


@pytest.mark.parametrize(
    "data",
    [
        raw(b"HTTP/2 200 OK"),
        raw(b"HTTP/1.1  200 OK"),
        raw(b"HTTP/1.1 20 OK"),
        raw(b"HTTP/1.1 600 OK"),
        raw(b"ICY 200 OK"),
        raw(OK, b"Content-Length: 5", b"Content-Length: 5"),
        raw(OK, b"Content-Length: -5"),
        raw(OK, b"Content-Length: 5, 5"),
        raw(OK, b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        raw(OK, b"Transfer-Encoding: gzip"),
        raw(OK, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        raw(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked"),
        raw(b"HTTP/1.1 204 No Content", b"Content-Length: 5"),
        raw(b"HTTP/1.1 100 Continue", b"Transfer-Encoding: chunked"),
        raw(OK, b"Folded: a", b" b"),
        raw(OK, b"Bad Name: a"),
        raw(OK, b": empty"),
        raw(OK, b"no colon"),
        raw(OK, b"Null: \x00"),
        raw(OK, b"Bare: a\nb"),
        raw(OK, b"Bare: a\rb"),
        raw(OK, *(b"X-%d: 1" % i for i in range(201))),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(UpstreamError) as refused:
        read_response(data, "GET")
    assert refused.value.code == "upstream.response"


def test_memory_of_lines_is_bounded_and_holds_no_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_MOST_LINES", 2)
    monkeypatch.setattr(response, "_known_lines", {})
    monkeypatch.setattr(response, "_known_heads", {})
    answer = raw(OK, b"Set-Cookie: s=1", b"Long: " + b"x" * 200, b"A:1", b"B: 2 ", b"C: 3")
    for _ in range(2):
        assert read_response(answer, "GET").fields.endswith(b"A: 1\r\nB: 2\r\nC: 3\r\n")
    assert len(response._known_lines) <= 2
    assert not any(b"s=1" in line for line in response._known_lines)


def test_a_head_that_repeats_is_read_once_and_never_for_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_MOST_HEADS", 1)
    monkeypatch.setattr(response, "_known_heads", {})
    answer, other = raw(OK, b"Server: up", b"Content-Length: 5"), raw(OK, b"Server: up", b"Content-Length: 6")
    first, second, third = (read_response(answer, "GET") for _ in range(3))
    assert first == second
    assert second is third
    assert read_response(answer, "HEAD").framing is Framing.NONE
    assert read_response(other, "GET").length == 6
    assert list(response._known_heads) == [other]
    cookie = raw(OK, b"Set-Cookie: s=1", b"Content-Length: 5")
    assert read_response(cookie, "GET") is not read_response(cookie, "GET")
    assert cookie not in response._known_heads


@given(st.binary(max_size=100))
def test_garbage_ends_in_a_verdict(noise: bytes) -> None:
    for data in (noise + b"\r\n\r\n", raw(OK, noise), raw(OK, b"X: " + noise)):
        try:
            head = read_response(data, "GET")
        except UpstreamError:
            continue
        assert not set(head.fields) & {0, 11, 12, 127}
