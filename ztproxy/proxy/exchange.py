"""One request from its head to the last byte of its answer: asks the gate, holds the grant, relays, closes.

Two halves run at once: the request body towards the upstream and the answer towards the client. The exchange is over
when the answer is complete; a request body that is still coming then ends the client's connection. Whatever happens,
the grant is closed once, with the code that says how it ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from ztproxy.audit.record import COMPLETED
from ztproxy.errors import AccessError, Internal, ProtocolError, Revoked, Unauthenticated, UpstreamError
from ztproxy.gate import Grant, Refused
from ztproxy.proxy.render import CONTINUE, STATUS_LINES, http_date
from ztproxy.proxy.step import step
from ztproxy.types import Ask, DenyDetail, Evidence
from ztproxy.wire.chunked import LAST_CHUNK, ChunkReader, frame
from ztproxy.wire.response import Framing, ResponseHead
from ztproxy.wire.sigv4 import declared_body_sha256

if TYPE_CHECKING:
    from ztproxy.proxy.fields import FieldBlock
    from ztproxy.proxy.http import ClientConnection
    from ztproxy.proxy.upstream import UpstreamConnection

_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""Source: RFC 9110 §9.2.2."""
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
LONGEST_GATHERED: Final = 1024 * 1024
"""Of a body read before its signature can be checked; a larger one declares its hash in a signed field."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_answer_chunked",
        "_ask",
        "_chunks",
        "_client",
        "_digest",
        "_evidence",
        "_expected",
        "_forwarded",
        "_gathered",
        "_held",
        "_left",
        "_retried",
        "_status",
        "_target",
        "_upstream",
        "body_open",
        "closes",
        "due",
        "grant",
        "head",
        "method",
        "task",
    )

    def __init__(
        self, client: ClientConnection, block: FieldBlock, target: bytes, ask: Ask, evidence: Evidence, *, gather: bool
    ) -> None:
        self._client: Final = client
        self._forwarded: Final = block.forwarded
        head = block.head
        self.head: Final = head
        self._target: Final = target
        self._ask: Final = ask
        self._evidence = evidence
        self._upstream: UpstreamConnection | None = None
        self._chunks = ChunkReader() if head.chunked else None
        self._left = head.length or 0
        self._gathered: bytearray | None = bytearray() if gather else None
        """The body, where the signature can be checked only over all of it."""
        self._digest: hashlib._Hash | None = None
        self._expected = ""
        self.closes = head.close
        """Whether the client's connection ends with this exchange."""
        self._held = b""
        self._status = 0
        self._answer_chunked = False
        self._retried = False
        self.body_open = head.has_body
        self.grant: Grant | None = None
        self.method: Final = ask.method
        self.task: asyncio.Task[None] | None = None
        self.due = float("inf")

    @property
    def ready(self) -> bool:
        """Whether body bytes can be taken now."""
        return self._upstream is not None or (self._gathered is not None and self.grant is None)

    def begin(self) -> None:
        """Starts at once, or as soon as a body that the signature is computed over has been read."""
        if self._gathered is None:
            self.task = step(self._run(), self._client.door.spawn)
            return
        self.due = monotonic() + self._client.door.pre_auth_s
        if self.head.expect_continue:
            self._client.send(CONTINUE)

    async def _run(self) -> None:
        """Admits and opens; finishes without suspending when nothing has to be waited for."""
        client = self._client
        try:
            self.grant = grant = await client.door.gate.admit(client.network, self._evidence, self._ask)
            self._check_body(grant)
            pool = client.door.upstreams[grant.request.route.name]
            upstream = pool.idle(grant) or await pool.open(grant)
            self._forward(upstream, grant)
        except Refused as refused:
            client.refuse(refused, body_open=self.body_open)
        except AccessError as error:
            self.fail(error)
        except asyncio.CancelledError:
            self._end("client.closed")
            raise
        except Exception as bug:
            self.fail(Internal("internal", "an internal error", detail=repr(bug)))

    def _check_body(self, grant: Grant) -> None:
        limit = grant.request.route.limits.body_bytes
        if self._left > limit or (self._gathered is not None and len(self._gathered) > limit):
            raise ProtocolError("protocol.body-size", "the body is larger than the route allows")
        if grant.request.identity.kind != "sigv4" or self._gathered is not None:
            return
        declared = declared_body_sha256(tuple(self.head.raw_headers))
        if declared is None:
            return
        if self.body_open:
            self._digest, self._expected = hashlib.sha256(), declared
        elif not hmac.compare_digest(declared, EMPTY_SHA256):
            raise _other_body()

    def _forward(self, upstream: UpstreamConnection, grant: Grant) -> None:
        """Sends the head upstream, with the judged target, the facts and the identity."""
        client, head = self._client, self.head
        self._upstream = upstream
        upstream.expect(self)
        self._touch(grant)
        gathered = self._gathered
        if gathered is not None:
            framing = b"Content-Length: %d\r\n\r\n%b" % (len(gathered), bytes(gathered))
            grant.meter.bytes_in = len(gathered)
        elif head.chunked:
            framing = b"Transfer-Encoding: chunked\r\n\r\n"
        elif head.length is not None:
            framing = b"Content-Length: %d\r\n\r\n" % head.length
        else:
            framing = b"\r\n"
        client.door.turn.send(
            upstream.transport,
            b"".join(
                (
                    b"%b %b HTTP/1.1\r\n" % (self.method.encode(), self._target),
                    client.facts_for(head.host),
                    self._forwarded,
                    client.identity_fields(grant.request.identity),
                    b"X-Ztproxy-Request-Id: %b\r\n" % grant.id.encode(),
                    framing,
                )
            ),
        )
        if self.body_open:
            if head.expect_continue:
                client.send(CONTINUE)
            client.feed_body()

    def _touch(self, grant: Grant) -> None:
        self.due = min(monotonic() + grant.request.route.limits.response_s, grant.deadline)

    def body(self, data: bytes) -> bytes:
        """Takes bytes of the request body; returns what follows its end."""
        rest = b""
        try:
            if self._chunks is not None:
                data, rest = self._chunks.feed(data)
                self.body_open = not self._chunks.done
            else:
                if len(data) > self._left:
                    data, rest = data[: self._left], data[self._left :]
                self._left -= len(data)
                self.body_open = self._left > 0
            if self._gathered is not None:
                self._gather(data)
            else:
                self._relay(data)
        except AccessError as error:
            self.fail(error)
            return b"" if self.body_open else rest
        return rest

    def _gather(self, data: bytes) -> None:
        assert self._gathered is not None
        self._gathered += data
        if len(self._gathered) > LONGEST_GATHERED:
            raise ProtocolError(
                "protocol.body-size", "a signed body this large must declare its hash in `x-amz-content-sha256`"
            )
        if not self.body_open:
            self.due = float("inf")
            signed = self._evidence.signed
            assert signed is not None
            digest = hashlib.sha256(self._gathered).hexdigest()
            self._evidence = replace(self._evidence, signed=replace(signed, body_sha256=digest))
            self.task = step(self._run(), self._client.door.spawn)

    def _relay(self, data: bytes) -> None:
        """Passes request body on; the last piece of a signed body only once its hash is right."""
        grant, upstream = self.grant, self._upstream
        if grant is None or upstream is None:
            return  # refused or failed already; what still comes is read and dropped
        meter = grant.meter
        meter.bytes_in += len(data)
        if meter.bytes_in > grant.request.route.limits.body_bytes:
            raise ProtocolError("protocol.body-size", "the body is larger than the route allows")
        if self._digest is not None:
            if data:  # a piece of framing alone must not push out what is held
                self._digest.update(data)
                data, self._held = self._held, data
            if not self.body_open:
                if not hmac.compare_digest(self._digest.hexdigest(), self._expected):
                    raise _other_body()
                data += self._held
        if self._chunks is not None:
            data = (frame(data) if data else b"") + (b"" if self.body_open else LAST_CHUNK)
        self._touch(grant)
        if data:
            self._client.door.turn.send(upstream.transport, data)

    def interim(self, head: ResponseHead) -> None:
        """Passes a 1xx on; `100 Continue` was answered by ourselves."""
        if head.status != 100 and self.head.minor == 1:
            self._client.send(b"".join((STATUS_LINES[head.status], head.fields, b"\r\n")))

    def answer(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        """Passes the head of the answer on, with the body bytes that came along."""
        grant = self.grant
        assert grant is not None
        self._status = head.status
        parts = [STATUS_LINES[head.status], head.fields]
        if not head.dated:
            parts.append(b"Date: %b\r\n" % http_date())
        framing = head.framing
        if framing is Framing.CHUNKED or framing is Framing.CLOSE:
            if self.head.minor == 1:
                self._answer_chunked = True
                parts.append(b"Transfer-Encoding: chunked\r\n")
        elif head.declared_length is not None:
            parts.append(b"Content-Length: %d\r\n" % head.declared_length)
        if self.closes or self.body_open:
            self.closes = True
            parts.append(b"Connection: close\r\n")
        parts.append(b"X-Ztproxy-Id: %b\r\n\r\n" % grant.id.encode())
        self._deliver(parts, grant, body, last)

    def answer_body(self, body: bytes, *, last: bool) -> None:
        """Passes further body bytes on."""
        grant = self.grant
        assert grant is not None
        self._deliver([], grant, body, last)

    def _deliver(self, parts: list[bytes], grant: Grant, body: bytes, last: bool) -> None:
        if body:
            grant.meter.bytes_out += len(body)
            parts.append(frame(body) if self._answer_chunked else body)
        if last:
            if self._answer_chunked:
                parts.append(LAST_CHUNK)
            self._complete(grant)
        else:
            self._touch(grant)
        client = self._client
        client.send(b"".join(parts))
        if last:
            client.exchange_over(close=self.closes, body_open=self.body_open)

    def _complete(self, grant: Grant) -> None:
        grant.close(COMPLETED, status=self._status)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self.body_open:
                upstream.abort()
            else:
                upstream.release()

    def upstream_failed(self, error: UpstreamError) -> None:
        """The answer is broken or will not come; an untouched idle connection that died is replaced once."""
        upstream, self._upstream = self._upstream, None
        grant = self.grant
        if (
            upstream is not None
            and upstream.reused
            and not upstream.began
            and grant is not None
            and not self._retried
            and not self.head.has_body
            and self.method in _REPEATABLE
        ):
            self._retried = True
            self.task = step(self._again(grant), self._client.door.spawn)
        else:
            self.fail(error)

    async def _again(self, grant: Grant) -> None:
        """The request once more, on a new connection: nothing of an answer came and nothing can happen twice."""
        try:
            upstream = await self._client.door.upstreams[grant.request.route.name].open(grant, fresh=True)
        except AccessError as error:
            self.fail(error)
        except asyncio.CancelledError:
            self._end("client.closed")
            raise
        else:
            self._forward(upstream, grant)

    def upstream_paused(self) -> None:
        """The upstream takes no more: stop reading the client."""
        self._client.upstream_full = True
        self._client.pause()

    def upstream_resumed(self) -> None:
        """The upstream caught up."""
        self._client.upstream_full = False
        self._client.resume()

    def client_paused(self) -> None:
        """The client takes no more: stop reading the upstream."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def client_resumed(self) -> None:
        """The client caught up."""
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def fail(self, error: AccessError) -> None:
        """Ends the exchange with an answer, or with a cut where one has begun."""
        client, grant = self._client, self.grant
        answerable = self._status == 0 and error.status != 0
        if grant is None:
            client.refuse(client.door.gate.reject(client.network, error, self._ask), body_open=self.body_open)
            return
        self._end(error.code, status=error.status if answerable else self._status, detail=error.detail)
        if answerable:
            level = grant.request.route.deny_detail or DenyDetail.REASON
            refused = Refused(attempt=grant.id, error=error, level=level, reasons=(error.public,))
            client.refuse(refused, body_open=self.body_open)
        else:
            client.cut()

    def expire(self) -> None:
        """Nothing moved for too long, or the grant ran out.

        Before the grant only a body that is read for its signature can be late: everything awaited has its own bound.
        """
        grant = self.grant
        if grant is not None and monotonic() >= grant.deadline:
            if self._status:
                self.fail(Revoked("grant.expired", "the grant ran out"))
            else:
                self.fail(UpstreamError("upstream.timeout", "the upstream was too slow", detail="total"))
        elif self.body_open and not self._status:
            self.fail(ProtocolError("protocol.body-timeout", "the request body came too slowly"))
        else:
            self.fail(UpstreamError("upstream.timeout", "the upstream was too slow", detail="response"))

    def client_gone(self) -> None:
        """The client vanished: whatever runs for it stops."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        self._end("client.closed", status=self._status)

    def _end(self, code: str, *, status: int = 0, detail: str = "") -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        if self.grant is not None:
            self.grant.close(code, status=status, detail=detail)


def _other_body() -> Unauthenticated:
    return Unauthenticated("authn.sigv4-body", "the body is not the one that was signed")
