"""Answers of an upstream, whole or in pieces, honest or not; the end is only ever where the framing says."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ztproxy.errors import UpstreamError
from ztproxy.proxy.answer import AnswerReader
from ztproxy.wire.response import ResponseHead

COUNTED = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


class Transport:
    """Tells whether it was cut; without TLS."""

    aborted = False

    def get_extra_info(self, _: str) -> None:
        return None

    def abort(self) -> None:
        self.aborted = True


class Sink:
    """An exchange that writes down what it is told."""

    def __init__(self, method: str = "GET") -> None:
        self.method = method
        self.heads: list[ResponseHead] = []
        self.interims: list[int] = []
        self.body = b""
        self.finished = 0
        self.pieces = 0
        self.failures: list[UpstreamError] = []
        self.flow: list[str] = []

    def interim(self, head: ResponseHead) -> None:
        self.interims.append(head.status)

    def answer(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        self.heads.append(head)
        self.answer_body(body, last=last)

    def answer_body(self, body: bytes, *, last: bool) -> None:
        assert not self.finished
        self.body += body
        self.pieces += 1
        self.finished += last

    def upstream_failed(self, error: UpstreamError) -> None:
        self.failures.append(error)

    def upstream_paused(self) -> None:
        self.flow.append("paused")

    def upstream_resumed(self) -> None:
        self.flow.append("resumed")

    @property
    def failure(self) -> tuple[str, str]:
        (error,) = self.failures
        return error.code, error.detail


def reading(method: str = "GET") -> tuple[AnswerReader, Sink]:
    reader, sink = AnswerReader(), Sink(method)
    reader.transport = cast(Any, Transport())
    reader.expect(sink)
    return reader, sink


def after(*data: bytes, method: str = "GET") -> tuple[AnswerReader, Sink]:
    reader, sink = reading(method)
    for piece in data:
        reader.data_received(piece)
    return reader, sink


def aborted(reader: AnswerReader) -> bool:
    return cast(Any, reader.transport).aborted  # type: ignore[no-any-return]


@pytest.mark.parametrize("whole", [COUNTED, CHUNKED, EARLY_HINTS + COUNTED, EARLY_HINTS + CHUNKED])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(whole: bytes, size: int) -> None:
    reader, sink = after(*(whole[at : at + size] for at in range(0, len(whole), size)))
    assert (sink.heads[0].status, sink.body, sink.finished, sink.failures) == (200, b"hello", 1, [])
    assert sink.interims == ([103] if whole.startswith(EARLY_HINTS) else [])
    assert reader.keep
    assert not aborted(reader)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_until_close_ends_with_the_connection_and_only_there(size: int) -> None:
    reader, sink = after(*(CLOSE[at : at + size] for at in range(0, len(CLOSE), size)))
    assert (sink.body, sink.finished) == (b"hello", 0)
    assert reader.eof_received() is False
    assert (sink.finished, reader.keep) == (1, False)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_is_over_with_its_head(method: str, answer: bytes) -> None:
    reader, sink = after(answer, method=method)
    assert (sink.body, sink.finished, reader.keep) == (b"", 1, True)


def test_several_interim_answers_go_before_the_final_one() -> None:
    _, sink = after(b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY_HINTS, EARLY_HINTS + COUNTED)
    assert (sink.interims, sink.heads[0].status) == ([100, 103, 103], 200)


def test_an_endless_row_of_interim_answers_is_refused() -> None:
    reader, sink = after(EARLY_HINTS * 16)
    assert (len(sink.interims), sink.failures) == (16, [])
    reader.data_received(EARLY_HINTS)
    assert sink.failure == ("upstream.response", "unasked 103")
    assert aborted(reader)


def test_a_switch_of_protocol_that_nobody_asked_for_is_refused() -> None:
    reader, sink = after(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")
    assert sink.failure == ("upstream.response", "unasked 101")
    assert (sink.interims, sink.heads, reader.keep, aborted(reader)) == ([], [], False, True)


def test_the_count_of_interim_answers_starts_anew_with_every_request() -> None:
    reader, first = after(EARLY_HINTS * 16 + COUNTED)
    reader.exchange = None
    second = Sink()
    reader.expect(second)
    reader.data_received(EARLY_HINTS + COUNTED)
    assert (first.finished, second.finished, second.interims) == (1, 1, [103])


@pytest.mark.parametrize(
    "answer",
    [COUNTED + b"HTTP/1.1 200 OK\r\n\r\n", CHUNKED + b"x", b"HTTP/1.1 204 No Content\r\n\r\nx"],
    ids=["counted", "chunked", "none"],
)
@pytest.mark.parametrize("cut", [-1, 0], ids=["apart", "together"])
def test_excess_bytes_reach_nobody_and_end_the_connection_with_the_answer(answer: bytes, cut: int) -> None:
    end = len(answer) + cut if cut else len(answer)
    reader, sink = reading()
    reader.data_received(answer[: answer.index(b"\r\n\r\n") + 4])
    if not sink.finished:
        reader.data_received(answer[answer.index(b"\r\n\r\n") + 4 : end])
    assert sink.body in (b"", b"hello")
    assert sink.finished == 1
    whole_reader, whole = after(answer)
    assert (whole.body, whole.finished, whole.failures, whole_reader.keep) == (sink.body, 1, [], False)


def test_a_byte_on_an_idle_connection_poisons_it() -> None:
    reader, sink = after(COUNTED)
    reader.exchange = None  # as the pool leaves it
    reader.data_received(b"H")
    assert (reader.keep, aborted(reader), sink.failures) == (False, True, [])


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"HTTP/2 200\r\n\r\n", "the status line is malformed"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Content-Length is malformed or came twice",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk size is malformed"),
        (b"x" * (64 * 1024 + 1), "head size"),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n\r\n", "a control byte, or a bare CR or LF"),
    ],
)
def test_a_malformed_answer_fails_the_exchange_and_cuts_the_connection(data: bytes, detail: str) -> None:
    reader, sink = after(data)
    assert sink.failure == ("upstream.response", detail)
    assert (reader.keep, aborted(reader)) == (False, True)
    reader.lost(None)
    assert len(sink.failures) == 1


def test_a_chunk_that_breaks_after_a_good_start_fails_too() -> None:
    reader, sink = after(CHUNKED[:-7], b"nonsense\r\n")
    assert sink.failure[0] == "upstream.response"
    assert (sink.finished, aborted(reader)) == (0, True)


def test_a_head_of_just_the_largest_size_is_not_yet_refused() -> None:
    _, sink = after(b"x" * 64 * 1024)
    assert sink.failures == []


def test_framing_without_body_bytes_is_not_passed_on() -> None:
    _, sink = after(CHUNKED[:-5], b"0")
    assert sink.pieces == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "upstream.closed"),
        (b"HTTP/1.1 200", "upstream.closed"),
        (EARLY_HINTS, "upstream.closed"),
        (COUNTED[:-1], "upstream.truncated"),
        (CHUNKED[:-1], "upstream.truncated"),
        (CLOSE, "upstream.truncated"),
    ],
)
def test_a_connection_that_ends_elsewhere_is_told_apart(data: bytes, code: str) -> None:
    reader, sink = reading()
    if data:
        reader.data_received(data)
    if data != CLOSE:
        reader.eof_received()
    reader.lost(ConnectionResetError("reset by peer"))
    assert sink.failure == (code, "reset by peer")
    assert (sink.finished, reader.keep) == (0, False)


def test_an_idle_connection_that_ends_tells_nobody() -> None:
    reader = AnswerReader()
    reader.eof_received()
    reader.lost(None)
    assert reader.keep is False


@pytest.mark.parametrize(("data", "began"), [(b"", False), (b"H", True), (EARLY_HINTS, True), (COUNTED[:-1], True)])
def test_whether_any_byte_of_the_answer_has_come(data: bytes, began: bool) -> None:
    reader, _ = reading()
    if data:
        reader.data_received(data)
    assert reader.began is began


def test_nothing_of_the_last_answer_counts_for_the_next() -> None:
    reader, _ = after(EARLY_HINTS + COUNTED)
    reader.expect(Sink())
    assert reader.began is False


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", COUNTED.replace(b"X-A: 1", b"Connection: close")]
)
def test_an_upstream_that_will_close_is_not_kept(answer: bytes) -> None:
    reader, sink = after(answer)
    assert (sink.finished, reader.keep) == (1, False)


def test_an_upstream_slow_to_take_the_request_is_told_to_the_exchange() -> None:
    reader, sink = reading()
    reader.pause_writing()
    reader.resume_writing()
    assert sink.flow == ["paused", "resumed"]
    reader.exchange = None
    reader.pause_writing()
    reader.resume_writing()
    assert sink.flow == ["paused", "resumed"]


def test_it_is_a_protocol_of_the_loop() -> None:
    assert isinstance(AnswerReader(), asyncio.Protocol)
