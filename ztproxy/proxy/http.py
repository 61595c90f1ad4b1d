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
from ztproxy.proxy.render import PLAIN, reader_of, refusal
from ztproxy.proxy.sessions import Sessions
from ztproxy.proxy.step import Spawn
from ztproxy.proxy.tls import ListenerContext, sni_of
from ztproxy.proxy.turn import Turn
from ztproxy.proxy.upstream import Upstream
from ztproxy.types import Ask, Facts, Identity, NetworkContext, PresentedCertificate
from ztproxy.wire.host import parse_authority
from ztproxy.wire.http import LONGEST_HEAD, read_head, read_line
from ztproxy.wire.target import LONGEST_TARGET, canonical_target

_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 32 * 1024
_LINGER_S: Final = 1.0
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
        "_arrival",
        "_block",
        "_buffer",
        "_certificate",
        "_exchange",
        "_facts",
        "_identity",
        "_lingering",
        "_paused",
        "_transport",
        "door",
        "due",
        "network",
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
        if exchange is None:
            if not self._lingering:
                self._read(self._buffer + data if self._buffer else data)
        elif exchange.body_open and not self._buffer and exchange.ready:
            self._buffer = exchange.body(data)
        else:
            self._buffer += data
            if len(self._buffer) > _HIGH_WATER:
                self.pause()

    def _read(self, data: bytes) -> None:
        """Looks for a complete head at the start of `data`."""
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
        """Turns a head into an ask with its evidence, and starts the exchange."""
        line_end = raw.index(b"\r\n") + 2
        rest = raw[line_end:]
        block = self._block
        try:
            line = read_line(raw[:line_end]) if block is not None and block.repeats(rest) else None
            if block is None or line is None:
                head = read_head(raw)
                self._block = block = FieldBlock(rest, head, self._certificate)
                line = head.method, head.raw_target
            method, raw_target = line
            target = canonical_target(raw_target, options=method == "OPTIONS")
            if target.authority is not None and parse_authority(target.authority) != parse_authority(block.head.host):
                raise ProtocolError("protocol.host", "the target and the Host field name different hosts")
        except AccessError as error:
            self._reject(error)
            return
        ask = Ask(_ACTION, block.host, target.path, method, method + target.path, block.facts)
        gather = block.hashed_by_body
        evidence = block.evidence(method, raw_target, EMPTY_SHA256 if gather and not block.head.has_body else None)
        gather = gather and block.head.has_body
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
            self._buffer = exchange.body(data)
        if self._exchange is not None and len(self._buffer) <= _HIGH_WATER:
            self.resume()

    def _reject(self, error: AccessError) -> None:
        self.refuse(self.door.gate.reject(self.network, error), body_open=False)

    def refuse(self, refused: Refused, *, body_open: bool) -> None:
        """Answers a refusal; a peer that broke the wire rules loses its connection."""
        exchange, self._exchange = self._exchange, None
        close = body_open or isinstance(refused.error, ProtocolError) or (exchange is not None and exchange.closes)
        reader = PLAIN if exchange is None else reader_of(exchange.head, head_only=exchange.method == "HEAD")
        self.send(refusal(refused, reader, close=close))
        self._over(close=close, body_open=body_open)

    def exchange_over(self, *, close: bool, body_open: bool) -> None:
        """The answer is complete; the next request may come."""
        self._exchange = None
        self._over(close=close, body_open=body_open)

    def _over(self, *, close: bool, body_open: bool) -> None:
        if close:
            if body_open:
                self._linger()
            else:
                self._lingering = True
                self.door.turn.close(self._transport)
            return
        self.due = monotonic() + self.door.idle_s
        if self._paused:
            self.resume()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """A pipelined request that waited its turn."""
        if self._exchange is None and not self._lingering and not self._transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._read(data)

    def _linger(self) -> None:
        """Reads on for a moment, so that input under way does not reset the connection before the answer arrives."""
        self._lingering = True
        self._buffer = b""
        self.due = monotonic() + _LINGER_S
        self.resume()

    def send(self, data: bytes) -> None:
        """Sends to the client, behind the records of this turn."""
        self.door.turn.send(self._transport, data)

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
        elif self._lingering:
            self._transport.abort()
        elif self._buffer:
            self._reject(ProtocolError("protocol.deadline", "the request head was not complete in time"))
        else:
            self._lingering = True
            self._transport.close()
            self.due = monotonic() + _LINGER_S

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
        """Reads the client again."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client is slow to take the answer."""
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        """The client caught up."""
        if self._exchange is not None:
            self._exchange.client_resumed()

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
