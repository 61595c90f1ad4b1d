"""The chunked coding: exact ends, strict framing, the same for every split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztproxy.errors import ProtocolError
from ztproxy.wire.chunked import LAST_CHUNK, ChunkReader, frame


def read(*pieces: bytes) -> tuple[bytes, bytes, bool]:
    reader = ChunkReader()
    body, rest = b"", b""
    for piece in pieces:
        more, rest = reader.feed(piece)
        body += more
    return body, rest, reader.done


def test_reads_chunks_extensions_and_trailers() -> None:
    raw = b'4;name="v"\r\nWiki\r\n5 ;x\r\npedia\r\nE\r\n in \r\n\r\nchunks\r\n0\r\nX-Checksum: abc\r\n\r\nGET /next'
    assert read(raw) == (b"Wikipedia in \r\n\r\nchunks", b"GET /next", True)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=8))
def test_every_split_reads_the_same(chunks: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(map(frame, chunks)) + LAST_CHUNK + b"next"
    ends = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    pieces = [raw[start:end] for start, end in itertools.pairwise(ends)]
    reader, body, rest = ChunkReader(), b"", b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        more, rest = reader.feed(piece)
        body += more
    assert (body, rest, reader.done) == (b"".join(chunks), b"next", True)


def test_byte_by_byte() -> None:
    raw = frame(b"hello") + frame(b"x" * 300) + b"0\r\nA: b\r\n\r\n"
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == (b"hello" + b"x" * 300, b"", True)


def test_incomplete_is_not_done() -> None:
    assert read(b"5\r\nhel") == (b"hel", b"", False)
    assert read(b"5\r\nhello\r") == (b"hello", b"", False)
    assert read(b"5\r\nhello", b"") == (b"hello", b"", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"5\nhello\r\n",  # bare LF behind the size
        b"\nhello",
        b"g\r\n",
        b"-5\r\nhello",
        b"+5\r\nhello",
        b"0x5\r\nhello",
        b" 5\r\nhello",
        b"5 \r\nhello",
        b"5_0\r\nhello",
        b"\r\n",
        b"1234567890abcdef0\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n",
        b"5;a\x00b\r\nhello",
        b"5;" + b"x" * 300 + b"\r\n",
        b"5;" + b"x" * 300,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nbad name : x\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nhost: evil\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"v" * 100) for i in range(90)),
        b"0\r\nX: " + b"v" * 9000,
    ],
)
def test_refuses(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(raw)
    assert refused.value.code == "protocol.framing"


@given(st.binary(max_size=200))
def test_garbage_ends_in_a_verdict(raw: bytes) -> None:
    try:
        read(raw)
    except ProtocolError as error:
        assert error.detail  # noqa: PT017
