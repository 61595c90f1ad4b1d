"""Reads the answers of an upstream connection and hands them, checked, to the exchange that waits.

States: nobody waits (any byte poisons the connection), head, counted body, chunked body, body until close. The end
of an answer is only ever where its framing says: a connection that ends elsewhere is a truncation, which the client
sees as a cut.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, Protocol

from ztproxy.errors import ProtocolError, UpstreamError
from ztproxy.wire.chunked import ChunkReader
from ztproxy.wire.response import LONGEST_RESPONSE_HEAD, Framing, ResponseHead, read_response

_MOST_INTERIM: Final = 16


class AnswerSink(Protocol):
    """What an exchange does with an answer."""

    @property
    def method(self) -> str:
        """Of the request that is being answered."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer came."""

    def answer(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        """The final head came, with the body bytes that came along."""

    def answer_body(self, body: bytes, *, last: bool) -> None:
        """Further body bytes, already free of their framing."""

    def upstream_failed(self, error: UpstreamError) -> None:
        """The answer is broken or will not come."""

    def upstream_paused(self) -> None:
        """The upstream takes no more request bytes for now."""

    def upstream_resumed(self) -> None:
        """The upstream takes request bytes again."""


class AnswerReader(asyncio.Protocol):
    """The reading half of an upstream connection."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_framing",
        "_interims",
        "_left",
        "exchange",
        "full",
        "keep",
        "reused",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.exchange: AnswerSink | None = None
        self.keep = True
        self.full = False
        """The upstream takes no more for now; nobody else may write to it meanwhile."""
        self.reused = False
        self._buffer = b""
        self._framing: Framing | None = None
        """None: a head is awaited."""
        self._left = 0
        self._interims = 0
        self._chunks: ChunkReader | None = None

    @property
    def began(self) -> bool:
        """Whether any byte of the answer awaited now has come."""
        return self._framing is not None or bool(self._buffer) or self._interims > 0

    def expect(self, exchange: AnswerSink) -> None:
        """From now on bytes are the answer to this exchange."""
        self.exchange = exchange
        self._framing = None
        self._interims = 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the upstream."""
        exchange = self.exchange
        if exchange is None:
            self.keep = False
            self.transport.abort()
            return
        try:
            if self._framing is None:
                self._head(exchange, self._buffer + data if self._buffer else data)
            else:
                self._body(exchange, data)
        except UpstreamError as error:
            self._fail(exchange, error)

    def _fail(self, exchange: AnswerSink, error: UpstreamError) -> None:
        self.keep = False
        self.exchange = None
        self.transport.abort()
        exchange.upstream_failed(error)

    def _head(self, exchange: AnswerSink, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > LONGEST_RESPONSE_HEAD:
                    raise UpstreamError("upstream.response", "the upstream's answer was malformed", detail="head size")
                self._buffer = data
                return
            raw, data = data[: end + 4], data[end + 4 :]
            head = read_response(raw, exchange.method)
            if head.status >= 200:
                break
            self._interims += 1
            if head.status == 101 or self._interims > _MOST_INTERIM:
                raise UpstreamError(
                    "upstream.response", "the upstream's answer was malformed", detail=f"unasked {head.status}"
                )
            exchange.interim(head)
            if not data:
                self._buffer = b""
                return
        self._buffer = b""
        self.keep = head.keep
        self._framing = framing = head.framing
        if framing is Framing.COUNTED:
            self._left = head.length - len(data)
            if self._left < 0:
                self.keep = False
                data = data[: head.length]
            exchange.answer(head, data, last=self._left <= 0)
        elif framing is Framing.NONE:
            if data:
                self.keep = False
            exchange.answer(head, b"", last=True)
        elif framing is Framing.CHUNKED:
            self._chunks = ChunkReader()
            exchange.answer(head, self._unchunk(data), last=self._chunks.done)
        else:
            exchange.answer(head, data, last=False)

    def _unchunk(self, data: bytes) -> bytes:
        assert self._chunks is not None
        try:
            body, rest = self._chunks.feed(data)
        except ProtocolError as error:
            raise UpstreamError(
                "upstream.response", "the upstream's answer was malformed", detail=error.detail
            ) from None
        if rest:
            self.keep = False
        return body

    def _body(self, exchange: AnswerSink, data: bytes) -> None:
        if self._framing is Framing.COUNTED:
            self._left -= len(data)
            if self._left < 0:
                self.keep = False
                data = data[: self._left]
            exchange.answer_body(data, last=self._left <= 0)
        elif self._framing is Framing.CHUNKED:
            body = self._unchunk(data)
            assert self._chunks is not None
            if body or self._chunks.done:
                exchange.answer_body(body, last=self._chunks.done)
        else:
            exchange.answer_body(data, last=False)

    def eof_received(self) -> bool:
        """The upstream ends its side: the end of a body that runs until close, else nothing by itself."""
        exchange = self.exchange
        if exchange is not None and self._framing is Framing.CLOSE and self._ended_in_order():
            self.keep = False
            exchange.answer_body(b"", last=True)
        return False

    def _ended_in_order(self) -> bool:
        """Whether TLS itself said that it ends; without TLS a FIN says as much as there is (RFC 9112 §9.8)."""
        connection = self.transport.get_extra_info("ssl_object")
        if connection is None:
            return True
        try:
            return not connection.read(1)  # nothing behind a `close_notify`; an error where none came
        except ssl.SSLError:
            return False

    def lost(self, error: Exception | None) -> None:
        """The connection is gone; an answer still awaited is truncated."""
        exchange, self.exchange = self.exchange, None
        self.keep = False
        if exchange is None:
            return
        if self._framing is None:
            code, public = "upstream.closed", "the upstream closed before it answered"
        else:
            code, public = "upstream.truncated", "the upstream's answer ended early"
        exchange.upstream_failed(UpstreamError(code, public, detail=str(error or "")))

    def pause_writing(self) -> None:
        """The upstream is slow to take the request."""
        self.full = True
        if self.exchange is not None:
            self.exchange.upstream_paused()

    def resume_writing(self) -> None:
        """The upstream caught up."""
        self.full = False
        if self.exchange is not None:
            self.exchange.upstream_resumed()
