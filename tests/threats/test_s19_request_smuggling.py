"""S19: the upstream reads as many requests as were judged, however a caller mixes lengths, codings and line ends.

The upstream here is the lenient second reader: it believes the first Content-Length it finds, however that is spelled,
and goes on with whatever follows.
"""

from __future__ import annotations

import itertools

import pytest

from tests.fakes.proxy import Answer
from tests.fakes.watch import WatchedHouse

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED_NOTHING = b"0\r\n\r\n"
LENGTHS = [
    b"",
    b"Content-Length: 0\r\n",
    b"Content-Length: %d\r\n" % len(CHUNKED_NOTHING),
    b"Content-Length: %d\r\n" % len(CHUNKED_NOTHING + HIDDEN),
    b"content_length: 0\r\n",
    b"Content-Length : 0\r\n",
    b"Content-Length: 0,0\r\n",
    b"Content-Length: 0x0\r\n",
    b"Content-Length:\r\n 0\r\n",
    b"X: 1\nContent-Length: 0\r\n",
    b"X: 1\rContent-Length: 0\r\n",
]
CODINGS = [
    b"",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer_encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\tchunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"X: 1\nTransfer-Encoding: chunked\r\n",
]


def answers(house: WatchedHouse, raw: bytes) -> list[Answer]:
    """Everything the proxy says to these bytes until it closes or falls silent."""
    connection = house.connect().send(raw)
    connection.socket.settimeout(0.1)
    found: list[Answer] = []
    try:
        while True:
            found.append(connection.answer())
    except (EOFError, TimeoutError):
        return found
    finally:
        connection.close()


@pytest.mark.parametrize("length", LENGTHS)
def test_the_upstream_reads_what_was_judged(house: WatchedHouse, length: bytes) -> None:
    token = house.tokens.token().encode()
    house.keep_secret(token.decode())
    start = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % token
    for coding, order in itertools.product(CODINGS, (False, True)):
        raw = start + (coding + length if order else length + coding) + b"\r\n" + CHUNKED_NOTHING + HIDDEN
        arrived, seen = len(house.upstream.requests), len(house.records())
        said = answers(house, raw)
        reached = [request.line for request in house.upstream.requests[arrived:]]
        records = [record for record in house.records()[seen:] if record["event"] == "access.decided"]
        allowed = [
            f"{record['method']} {record['path']} HTTP/1.1".encode()
            for record in records
            if record["code"] == "allowed"
        ]
        assert reached == [line for line in allowed if line in reached], raw
        assert b"GET /smuggled HTTP/1.1" not in reached, raw  # it carries no token, so nobody may have let it in
        assert len(said) <= len(records)
        for request in house.upstream.requests[arrived:]:
            framings = len(request.values(b"content-length")) + len(request.values(b"transfer-encoding"))
            assert framings <= 1
            assert b"smuggled" not in request.head
    assert house.leaks() == []


def test_a_second_request_is_judged_by_itself(house: WatchedHouse) -> None:
    """The same bytes, framed honestly: two requests, two judgements, and the second brings no token."""
    with house.expecting(
        "access.decided allowed", "access.ended completed", "access.decided authn.missing", forwarded=1
    ):
        said = answers(house, house.request("POST /orders", body=CHUNKED_NOTHING) + HIDDEN)
    assert [answer.status for answer in said] == [200, 401]


@pytest.mark.parametrize("line", [b"\r\n", b"\r\n\r\n", b"\n", b"\x00", b" "])
def test_what_stands_between_two_requests(house: WatchedHouse, line: bytes) -> None:
    """One empty line is forgiven (RFC 9112 section 2.2); anything else is not the start of a request."""
    first, second = answers(house, house.request() + line + house.request())
    assert first.status == 200
    assert second.status in ((200,) if line == b"\r\n" else (400, 501))
