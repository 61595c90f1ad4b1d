"""A request that two readers could read differently is refused, its connection ends, and no upstream hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.watch import WatchedHouse, refused, served

GET = b"GET /orders HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        configuration["listeners"][0]["timeouts"] = {"pre_auth_s": 1}

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


def with_token(house: WatchedHouse, raw: bytes) -> bytes:
    """The request with bob's good token, so that nothing but its form can refuse it."""
    token = house.tokens.token()
    house.keep_secret(token)
    line, end, rest = raw.partition(b"\n")
    cut = b"\r" if line.endswith(b"\r") else b""
    return line + end + b"Authorization: Bearer " + token.encode() + cut + end + rest


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEADS: dict[str, tuple[str, bytes]] = {
    "length-and-chunked": (
        "protocol.framing",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + SMUGGLED,
    ),
    "chunked-and-length": (
        "protocol.framing",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        + SMUGGLED,
    ),
    "two-lengths": (
        "protocol.framing",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 43\r\n\r\n" + SMUGGLED,
    ),
    "length-twice-the-same": (
        "protocol.framing",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    ),
    "length-list": ("protocol.framing", b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2, 2\r\n\r\nhi"),
    "length-signed": ("protocol.framing", b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\nhi"),
    "length-negative": ("protocol.framing", b"POST /o HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
    "two-codings": (
        "protocol.framing",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    "coding-with-vertical-tab": (
        "protocol.head",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked-in-1.0": (
        "protocol.framing",
        b"POST /o HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "blank-before-colon": (
        "protocol.head",
        b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    "folded": ("protocol.head", GET + b"X-A: 1\r\n folded\r\n\r\n"),
    "folded-with-tab": ("protocol.head", GET + b"X-A: 1\r\n\tfolded\r\n\r\n"),
    "bare-lf": ("protocol.head", GET + b"X-A: 1\nX-B: 2\r\n\r\n"),
    "bare-cr": ("protocol.head", GET + b"X-A: 1\rX-B: 2\r\n\r\n"),
    "nul-in-a-value": ("protocol.head", GET + b"X-A: 1\x002\r\n\r\n"),
    "no-name": ("protocol.head", GET + b": 1\r\n\r\n"),
    "two-hosts": ("protocol.host", GET + b"Host: localhost\r\n\r\n"),
    "two-different-hosts": ("protocol.host", GET + b"Host: evil.example\r\n\r\n"),
    "no-host": ("protocol.host", b"GET /orders HTTP/1.1\r\nX-A: 1\r\n\r\n"),
    "host-list": ("protocol.host", b"GET /orders HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n"),
    "host-with-user": ("protocol.host", b"GET /orders HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n"),
    "another-absolute-host": ("protocol.host", b"GET https://evil.example/o HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "connect": ("protocol.method", b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "trace": ("protocol.method", b"TRACE /orders HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "lower-case-method": ("protocol.method", b"get /orders HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "http-2": ("protocol.head", b"GET /orders HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    "unknown-expectation": ("protocol.expect", GET + b"Expect: 200-ok\r\n\r\n"),
}
TARGETS = [
    *("/a/../b", "/..", "/a/..", "/a/./b", "/a/%2e%2e/b", "/a/%2E%2e/b", "/a/.%2e/b", "/a/%252e%252e/b", "/a/...;/b"),
    *("//a", "/a//b", "/a/%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a;b", "/a;jsessionid=1", "/a%3bb/..;/c"),
    *("/a%00b", "/a%0d%0ab", "/a%7f", "/a%ffb", "/a%", "/a%2", "/a%zz", "/a%u002e", "/a%25%32%65", "/a#b", "/a?b#c"),
    *("*", "orders", "/a b", "/\xc3\xa9", "/a\x7fb", "http:///o", "ftp://localhost/o", "https://u:p@localhost/o"),
]


@pytest.mark.parametrize("kind", HEADS)
def test_an_ambiguous_head_is_refused(house: WatchedHouse, kind: str) -> None:
    code, raw = HEADS[kind]
    with house.expecting(refused(code)):
        connection = house.connect().send(with_token(house, raw))
        answer = connection.answer()
        assert connection.ended()
        connection.close()
    assert 400 <= answer.status < 500 or answer.status == 501
    assert (answer.json["code"], answer.value("connection")) == (code, "close")


@pytest.mark.parametrize("target", TARGETS)
def test_an_ambiguous_target_is_refused(house: WatchedHouse, target: str) -> None:
    raw = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode("latin-1")
    connection = house.connect().send(with_token(house, raw))
    answer = connection.answer()
    assert connection.ended()
    connection.close()
    assert answer.status == 400
    assert answer.json["code"] in ("protocol.target", "protocol.head", "protocol.host")
    record = house.records()[-1]
    assert (record["event"], record["code"]) == ("access.decided", answer.json["code"])


def test_none_of_the_targets_arrived_and_each_left_one_record(house: WatchedHouse) -> None:
    with house.expecting(*[refused("protocol.target")] * 3):
        for target in ("/a/../b", "//a", "/a%2fb"):
            house.ask(f"GET {target}")
    assert {request.line for request in house.upstream.requests} == {b"GET /bystander HTTP/1.1"}


BODIES = {
    "size-is-no-number": b"zz\r\nhi\r\n0\r\n\r\n",
    "size-signed": b"+2\r\nhi\r\n0\r\n\r\n",
    "size-hex-prefix": b"0x2\r\nhi\r\n0\r\n\r\n",
    "size-too-long": b"f" * 17 + b"\r\nhi\r\n0\r\n\r\n",
    "no-crlf-behind-data": b"2\r\nhi!\r\n0\r\n\r\n",
    "bare-lf": b"2\nhi\n0\n\n",
    "lf-in-extension": b"2;a\nb\r\nhi\r\n0\r\n\r\n",
    "trailer-without-colon": b"2\r\nhi\r\n0\r\nX-A\r\n\r\n",
    "trailer-with-blank-name": b"2\r\nhi\r\n0\r\nX-A : 1\r\n\r\n",
    "trailer-with-bare-lf": b"2\r\nhi\r\n0\r\nX-A: 1\n\r\n",
    "trailer-that-frames": b"2\r\nhi\r\n0\r\nContent-Length: 50\r\n\r\n",
    "trailer-that-signs-in": b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("later", [False, True])
def test_a_bad_chunk_is_refused(house: WatchedHouse, kind: str, later: bool) -> None:
    head = with_token(house, b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    with house.expecting(*served("protocol.framing")):
        connection = house.connect()
        if later:
            connection.send(head)
            house.wait_records("access.decided", len(house.records("access.decided")) + 1, seconds=0.05)
            connection.send(BODIES[kind])
        else:
            connection.send(head + BODIES[kind])
        answer = connection.answer()
        connection.close()
    assert (answer.status, answer.json["code"]) == (400, "protocol.framing")


def test_a_body_is_always_serialised_anew(house: WatchedHouse) -> None:
    """What a chunked body carries besides its data, extensions and trailers, ends here."""
    head = with_token(house, b"POST /o HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n")
    body = b'02;a="b"\r\nhi\r\n000\r\nX-Ztproxy-Subject: root\r\nX-A: 1\r\n\r\n'
    with house.expecting(*served(), forwarded=1):
        answer = house.ask_on(house.connect(), head + body)
    assert answer.status == 200
    assert house.upstream.requests[-2].body == b"2\r\nhi\r\n0\r\n\r\n"
    assert house.upstream.requests[-2].values(b"transfer-encoding") == [b"chunked"]


def test_lines_that_end_in_lf_alone_are_no_head_at_all(house: WatchedHouse) -> None:
    with house.expecting(refused("protocol.deadline")):
        answer = house.ask_on(house.connect(), with_token(house, b"GET /orders HTTP/1.1\nHost: localhost\n\n"))
    assert answer.status == 408


@pytest.mark.parametrize(
    ("kind", "status", "head"),
    [
        ("protocol.target-size", 414, b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 9000)),
        ("protocol.head-size", 431, GET + b"X-A: " + b"a" * 17_000 + b"\r\n\r\n"),
        ("protocol.head-size", 431, GET + b"X-A: 1\r\n" * 101 + b"\r\n"),
        ("protocol.head-size", 431, GET + (b"X-A: " + b"a" * 8200 + b"\r\n") * 4 + b"\r\n"),
    ],
)
def test_what_is_too_large_is_refused(house: WatchedHouse, kind: str, status: int, head: bytes) -> None:
    with house.expecting(refused(kind)):
        answer = house.ask_on(house.connect(), with_token(house, head))
    assert (answer.status, answer.json["code"]) == (status, kind)
