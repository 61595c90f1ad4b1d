"""One client connection of an HTTP listener: reads heads, starts exchanges, one at a time and in order.

States: waiting for a head (`_exchange` is None), in an exchange (body bytes go to it, what follows waits in
`_buffer`), lingering (the answer is sent, input is read and dropped so that it can arrive), closed. A phase that
lasts too long ends by `due`, which `sessions.py` watches; no timer is armed per request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, cast

from ztproxy.errors import AccessError, ProtocolError, Unauthenticated
from ztproxy.gate import Gate, Refused
from ztproxy.proxy.exchange import EMPTY_SHA256, Exchange
from ztproxy.proxy.fields import FieldBlock
from ztproxy.proxy.render import PLAIN, Reader, reader_of, refusal
from ztproxy.proxy.sessions import Sessions
from ztproxy.proxy.step import Spawn
from ztproxy.proxy.tls import ListenerContext, sni_of
from ztproxy.proxy.turn import Turn
from ztproxy.proxy.upstream import Upstream
from ztproxy.types import Ask, Facts, Identity, NetworkContext, PresentedCertificate
from ztproxy.wire.host import parse_authority
from ztproxy.wire.http import LONGEST_HEAD, RequestHead, read_head
from ztproxy.wire.target import LONGEST_TARGET, canonical_target

_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 32 * 1024
_LINGER_S: Final = 1.0
"""For a short last answer to arrive, and for a resting client to notice the end."""
_CLOSE_S: Final = 5.0
"""For the last bytes of an answer that may be long."""
_ACTION: Final = "execute-api:Invoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What all connections of one listener share."""

    listener: str
    gate: Gate
    turn: Turn
    spawn: Spawn
    sessions: Sessions
    upstreams: Mapping[str, Upstream]
    tls: ListenerContext
    network_facts: Callable[[str, str | None], Facts]
    """From peer address and VPC endpoint id."""
    pre_auth_s: float = 10.0
    idle_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known of a connection before TLS."""

    peer: str
    peer_port: int
    started: float
    """Monotonic seconds at accept; the pre-auth deadline counts from here."""
    balancer: str | None = None
    vpce_id: str | None = None


class ClientConnection(asyncio.Protocol):
    """The protocol of one client connection, behind TLS."""

    __slots__ = (
        "_answered",
        "_arrival",
        "_block",
        "_buffer",
        "_certificate",
        "_ends",
        "_exchange",
        "_facts",
        "_identity",
        "_lingering",
        "_paused",
        "_queued",
        "_stuffed",
        "_transport",
        "door",
        "due",
        "network",
        "upstream_full",
    )

    network: NetworkContext
    _transport: asyncio.Transport

    def __init__(self, door: Door, arrival: Arrival) -> None:
        self.door: Final = door
        self.due = arrival.started + door.pre_auth_s
        self._arrival: Final = arrival
        self._buffer = b""
        self._certificate: PresentedCertificate | None = None
        self._exchange: Exchange | None = None
        self._facts = (b"", b"")
        self._identity: tuple[Identity | None, bytes] = (None, b"")
        self._lingering = False
        self._paused = False
        self._stuffed = False
        """The client leaves its answers unread; no further request is taken up meanwhile."""
        self._queued = False
        """`_next` is due."""
        self._answered = False
        """What the connection ends with is an answer, which may be long."""
        self._ends = False
        """The connection ends as soon as the client has caught up."""
        self.upstream_full = False
        """The upstream of the exchange takes no more for now."""
        self._block: FieldBlock | None = None
        """The fields of the last request; says too which language its caller reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands: the network context is complete."""
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        self._transport = transport
        transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        connection = transport.get_extra_info("ssl_object")
        door, arrival = self.door, self._arrival
        try:
            self._certificate = door.tls.presented(connection)
        except Unauthenticated as error:
            door.gate.failed_connection(
                listener=door.listener, peer=arrival.peer, peer_port=arrival.peer_port, error=error
            )
            transport.abort()
            return
        self.network = NetworkContext(
            listener=door.listener,
            peer=arrival.peer,
            peer_port=arrival.peer_port,
            balancer=arrival.balancer,
            vpce_id=arrival.vpce_id,
            sni=sni_of(connection),
            alpn=connection.selected_alpn_protocol(),
            tls_version=connection.version(),
            facts=door.network_facts(arrival.peer, arrival.vpce_id),
        )
        door.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; what ran for it ends."""
        self.door.sessions.discard(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        exchange = self._exchange
        if self._lingering:
            return
        if exchange is None and not self._stuffed and not self._queued:
            self._read(self._buffer + data if self._buffer else data)
        elif exchange is not None and exchange.body_open and not self._buffer and exchange.ready:
            self._give_body(exchange, data)
        else:
            self._buffer += data
            if len(self._buffer) > _HIGH_WATER:
                self.pause()

    def _read(self, data: bytes) -> None:
        """Looks for a complete head at the start of `data`."""
        block = self._block
        line = None if block is None else block.line_of(data)
        if block is not None and line is not None:
            self._buffer = b""
            self._ask(block, *line)
            return
        if data[:2] == b"\r\n":  # LENIENT: RFC 9112 §2.2, one empty line before a request line
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        if 0 <= end < LONGEST_HEAD:
            self._buffer = data[end + 4 :]
            self._begin(data[: end + 4])
            return
        if not self._buffer:
            # The first bytes of a further request: from now on the head has its own deadline, not the idle one.
            self.due = min(self.due, monotonic() + self.door.pre_auth_s)
        self._buffer = data
        if b"\n" not in data[: LONGEST_TARGET + 64] and len(data) > LONGEST_TARGET + 64:
            self._reject(ProtocolError("protocol.target-size", "the request target is too long"))
        elif len(data) > LONGEST_HEAD or end >= 0:
            self._reject(ProtocolError("protocol.head-size", "the request head is too large"))

    def _begin(self, raw: bytes) -> None:
        """Reads a head, unless only its line is new."""
        block = self._block
        line = None if block is None else block.line_of(raw)
        if block is not None and line is not None:
            self._ask(block, *line)
            return
        head: RequestHead | None = None
        try:
            head = read_head(raw)
            self._block = block = FieldBlock(raw[raw.index(b"\r\n") + 2 :], head, self._certificate)
        except AccessError as error:
            head_only = raw.startswith(b"HEAD ")
            self._reject(error, Reader(head_only=head_only) if head is None else reader_of(head, head_only=head_only))
            return
        self._ask(block, head.method, head.raw_target)

    def _ask(self, block: FieldBlock, method: str, raw_target: bytes) -> None:
        """Makes the ask with its evidence, and starts the exchange."""
        head = block.head
        try:
            target = canonical_target(raw_target, options=method == "OPTIONS")
            if target.authority is not None and parse_authority(target.authority) != parse_authority(head.host):
                raise ProtocolError("protocol.host", "the target and the Host field name different hosts")
        except AccessError as error:
            self._reject(error, reader_of(head, head_only=method == "HEAD"))
            return
        ask = Ask(_ACTION, block.host, target.path, method, method + target.path, block.facts)
        gather = block.hashed_by_body
        evidence = block.evidence(method, raw_target, EMPTY_SHA256 if gather and not head.has_body else None)
        gather = gather and head.has_body
        self._exchange = exchange = Exchange(self, block, target.forward, ask, evidence, gather=gather)
        self.due = float("inf")
        exchange.begin()
        if gather:
            self.feed_body()

    def feed_body(self) -> None:
        """Hands the body bytes that came early to the exchange."""
        exchange, data = self._exchange, self._buffer
        if exchange is not None and data and exchange.body_open:
            self._buffer = b""
            self._give_body(exchange, data)
        if self._exchange is not None and len(self._buffer) <= _HIGH_WATER:
            self.resume()

    def _give_body(self, exchange: Exchange, data: bytes) -> None:
        self._buffer = exchange.body(data)
        if self._exchange is None and self._buffer and not self._lingering:
            self._go_on()  # refused with its last byte; what follows is the next request

    def _reject(self, error: AccessError, reader: Reader = PLAIN) -> None:
        # INVARIANT: a head that is refused here ends the connection, for nobody knows where its body would.
        refused = self.door.gate.reject(self.network, error)
        self.send(refusal(refused, reader, close=True))
        self._over(close=True, body_open=False)

    def refuse(self, refused: Refused, *, body_open: bool) -> None:
        """Answers the refusal of an exchange; a peer that broke the wire rules loses its connection."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        close = body_open or exchange.closes or isinstance(refused.error, ProtocolError)
        reader = reader_of(exchange.head, head_only=exchange.method == "HEAD")
        self.send(refusal(refused, reader, close=close))
        self._over(close=close, body_open=body_open)

    def exchange_over(self, *, close: bool, body_open: bool) -> None:
        """The answer is complete; the next request may come."""
        self._exchange = None
        self._answered = True
        self._over(close=close, body_open=body_open)

    def _over(self, *, close: bool, body_open: bool) -> None:
        self.upstream_full = False
        if close:
            self._lingering = True
            self._buffer = b""
            self.due = monotonic() + _LINGER_S
            if body_open:
                self.resume()  # input is read and dropped for a moment, so that it cannot reset what was answered
            else:
                self.door.turn.close(self)
            return
        self._answered = False
        self.due = monotonic() + self.door.idle_s
        self._go_on()

    def _go_on(self) -> None:
        """Takes up the request that waits, or reads again; neither while the client leaves its answers unread."""
        if self._stuffed or self._queued:
            return
        if self._buffer:
            self._queued = True
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self.resume()

    def _next(self) -> None:
        """A pipelined request whose turn has come; more is read only once little is left to read from."""
        self._queued = False
        if self._exchange is None and not (self._lingering or self._stuffed) and not self._transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._read(data)
            if len(self._buffer) <= _HIGH_WATER:
                self.resume()

    def send(self, data: bytes) -> None:
        """Sends to the client, behind the records of this turn."""
        self.door.turn.send(self._transport, data)

    def is_closing(self) -> bool:
        """Whether the connection ends already."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Ends the connection, once the client has taken most of what was sent."""
        if self._stuffed:
            self._ends = True
            self.due = monotonic() + self.door.idle_s
        else:
            self._ends = False
            self.due = monotonic() + (_CLOSE_S if self._answered else _LINGER_S)
            self._transport.close()

    def cut(self) -> None:
        """Ends the connection so that the client cannot take what it has for complete."""
        self._lingering = True
        self._transport.abort()

    def finish(self) -> None:
        """Ends the connection with the exchange it is in, or at once when it rests."""
        if self._exchange is not None:
            self._exchange.closes = True
        elif not self._lingering:
            self._over(close=True, body_open=False)

    def expire(self) -> None:
        """The present phase lasted too long."""
        if self._exchange is not None:
            self._exchange.expire()
        elif self._lingering or self._stuffed:
            self._transport.abort()
        elif self._buffer:
            self._reject(ProtocolError("protocol.deadline", "the request head was not complete in time"))
        else:
            self._over(close=True, body_open=False)

    @property
    def deadline(self) -> float:
        """When the present phase ends, in monotonic seconds."""
        exchange = self._exchange
        return self.due if exchange is None else exchange.due

    def pause(self) -> None:
        """Stops reading the client."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads the client again, unless its upstream takes no more."""
        if self._paused and not self.upstream_full and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client is slow to take the answer."""
        self._stuffed = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._stuffed = False
        if self._ends:
            self.close()
        elif self._exchange is not None:
            self._exchange.client_resumed()
        elif not self._lingering:
            self._go_on()

    def facts_for(self, host: bytes) -> bytes:
        """Host and forwarding fields, from facts alone; made once while the host stays the same."""
        if self._facts[0] != host:
            peer = self.network.peer
            node = f'"[{peer}]"' if ":" in peer else peer
            self._facts = (
                host,
                b"Host: %b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %b\r\n"
                b'Forwarded: for=%b;host="%b";proto=https\r\n' % (host, peer.encode(), host, node.encode(), host),
            )
        return self._facts[1]

    def identity_fields(self, identity: Identity) -> bytes:
        """The identity fields, serialised; made once while the identity stays the same."""
        if self._identity[0] is not identity:
            self._identity = (identity, b"".join([b"%b: %b\r\n" % pair for pair in identity.upstream_headers]))
        return self._identity[1]
