"""The only door out: connections to one upstream, opened for the holder of a `Grant` and kept for the next.

A connection is idle (in the pool, youngest first), lent (to exactly one exchange) or gone. It returns to the pool
only after an answer that ended where it said it would, on a connection that both sides mean to keep; a byte that
arrives while it is idle poisons it. Dialling is a task of its own, so that whoever waits for it may be outside any.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from ztproxy.errors import AccessError, Internal, Overloaded, UpstreamError
from ztproxy.proxy.answer import AnswerReader

if TYPE_CHECKING:
    from ztproxy.gate import Grant
    from ztproxy.proxy.step import Spawn

_LONGEST_QUEUE: Final = 1000
_QUEUE_S: Final = 5.0
_SHUTDOWN_S: Final = 1.0
_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTarget:
    """Where an upstream is, and how it is spoken to."""

    route: str
    """The one route it serves: each has its own connections, so one that stalls starves no other (S13)."""
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    max_connections: int = 100


class UpstreamConnection(AnswerReader):
    """One connection to an upstream; reads answers for the exchange that holds it."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream: Final = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport, with write buffers bounded."""
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self.transport = transport
        self._upstream.adopt(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forgets the connection, and tells the exchange that held it."""
        self._upstream.forget(self)
        self.lost(error)

    def release(self) -> None:
        """Gives the connection back after a complete answer, if it can serve again."""
        self.exchange = None
        self.reused = True
        if self.keep and not self.full and not self.transport.is_closing():
            self._upstream.take_back(self)
        else:
            self.transport.close()

    def abort(self) -> None:
        """Cuts the connection; whatever was being sent stays incomplete."""
        self.exchange = None
        self.keep = False
        self.transport.abort()


class Upstream:
    """All connections to one upstream."""

    def __init__(self, target: UpstreamTarget, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        self.target: Final = target
        self._loop: Final = loop
        self._spawn: Final = spawn
        self._idle: Final[list[UpstreamConnection]] = []
        self._all: Final[set[UpstreamConnection]] = set()
        self._dialling = 0
        self._promised = 0
        """Places given to waiters that have not dialled yet; nobody else may take them meanwhile."""
        self._waiting: Final[deque[asyncio.Future[UpstreamConnection | None]]] = deque()

    def idle(self, grant: Grant) -> UpstreamConnection | None:
        """A connection for this grant that rests in the pool, the one used last first."""
        self._check(grant)
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def _check(self, grant: Grant) -> None:
        # INVARIANT: only a live grant for this very route opens anything here (S13).
        if grant.request.route.name != self.target.route or grant.meter.closed:
            raise Internal("internal", "the grant is not for this upstream")

    async def open(self, grant: Grant, *, fresh: bool = False) -> UpstreamConnection:
        """A connection for this grant: an idle one unless it must be fresh, else a new one, else the next given back.

        Raises: `UpstreamError`, `Overloaded`.
        """
        idle = None if fresh else self.idle(grant)
        if idle is not None:
            return idle
        self._check(grant)
        if len(self._all) + self._dialling + self._promised >= self.target.max_connections:
            lent = await self._queue()
            if lent is not None:
                return lent
            self._promised -= 1
        future: asyncio.Future[UpstreamConnection] = self._loop.create_future()
        self._dialling += 1
        self._spawn(self._dial(future, grant.request.route.limits.connect_s))
        try:
            return await future
        except asyncio.CancelledError:
            # It may have come in the very moment its taker left.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.take_back(future.result())
            raise

    async def _queue(self) -> UpstreamConnection | None:
        """A connection given back, or None: a place that is kept for the caller until it dials."""
        if len(self._waiting) >= _LONGEST_QUEUE:
            raise Overloaded("overload.upstream", "the upstream is at its limit", detail="queue full")
        future: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiting.append(future)
        timer = self._loop.call_later(_QUEUE_S, self._give_up, future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._pass_on(future.result())
            raise
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._waiting.remove(future)

    def _pass_on(self, lent: UpstreamConnection | None) -> None:
        """Whoever was given this has gone in the same moment."""
        if lent is not None:
            self.take_back(lent)
        else:
            self._promised -= 1
            self._wake()

    def _give_up(self, future: asyncio.Future[UpstreamConnection | None]) -> None:
        if not future.done():
            future.set_exception(Overloaded("overload.upstream", "the upstream is at its limit", detail="queue time"))

    async def _dial(self, future: asyncio.Future[UpstreamConnection], connect_s: float) -> None:
        target = self.target
        connection: UpstreamConnection | None = None
        failure: AccessError
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self),
                    target.host,
                    target.port,
                    ssl=target.tls,
                    server_hostname=(target.server_name or target.host) if target.tls else None,
                    ssl_shutdown_timeout=_SHUTDOWN_S if target.tls else None,
                )
        except TimeoutError:
            failure = UpstreamError("upstream.timeout", "the upstream did not answer in time", detail="connect")
        except ssl.SSLError as error:
            failure = UpstreamError("upstream.tls", "the upstream's TLS identity was refused", detail=str(error))
        except OSError as error:
            failure = UpstreamError("upstream.connect", "the upstream cannot be reached", detail=str(error))
        except Exception as error:
            failure = Internal("internal", "the upstream could not be dialled", detail=repr(error))
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            self._dialling -= 1
        if connection is None:
            self._wake()
            if not future.done():
                future.set_exception(failure)
            return
        if future.done():  # whoever wanted it has gone; the next one is glad of it
            self.take_back(connection)
        else:
            future.set_result(connection)

    def adopt(self, connection: UpstreamConnection) -> None:
        """A connection stands; from now on it takes a place."""
        self._all.add(connection)

    def take_back(self, connection: UpstreamConnection) -> None:
        """Lends the connection to who waits longest, else keeps it."""
        if connection.transport.is_closing():
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is gone; its place is free."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake()

    def _wake(self) -> None:
        """A place became free without a connection: the longest waiting dials for itself."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                self._promised += 1
                future.set_result(None)
                return

    def close(self) -> None:
        """Ends every connection."""
        for connection in tuple(self._all):
            connection.abort()
