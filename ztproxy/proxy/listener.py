"""Accepts connections: PROXY header first where the listener requires one, then TLS, then the protocol.

Until TLS starts the raw socket is read exactly, never a byte past the PROXY header, so whatever is stuffed behind it
meets the handshake and breaks it. One deadline counts from accept over all of it and on into the first request head.
A preamble or handshake that fails is closed without a word and recorded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import Final

from ztproxy.errors import AccessError, Internal, ProtocolError
from ztproxy.proxy.http import Arrival, ClientConnection, Door
from ztproxy.wire import proxyproto

_BACKLOG: Final = 4096
_ACCEPTS_PER_TURN: Final = 64
_NO_DESCRIPTORS_S: Final = 0.5
_SHUTDOWN_S: Final = 5.0
"""For the last bytes of an answer and the peer's own end of TLS; who ignores it is cut."""

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where a listener listens, and who may speak PROXY to it."""

    host: str
    port: int
    proxy_from: Networks | None = None
    """Networks a PROXY header is required from; None: none is taken from anyone."""


def _address(text: str) -> str:
    """Canonical text of a socket address; IPv4-mapped IPv6 becomes IPv4 (S33)."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


class Listener:
    """One listening socket with everything that comes through it."""

    def __init__(self, binding: Binding, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the address; clients can connect from now on, and wait until `start`.

        Raises: `OSError`.
        """
        self._binding: Final = binding
        self._loop: Final = loop
        self._door: Door
        family = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
        self._socket: Final = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((binding.host, binding.port))
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            address = f"[{binding.host}]" if ":" in binding.host else binding.host
            raise OSError(error.errno, f"cannot listen on {address}:{binding.port}: {error.strerror}") from None

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self, door: Door) -> None:
        """Lets connections in by this door."""
        self._door = door
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def stop(self) -> None:
        """Accepts no more, also when it has stopped before; connections that stand are not touched."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of descriptors: what stands goes on, and the kernel's queue waits (no busy loop).
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(_NO_DESCRIPTORS_S, self._accept_again)
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._door.spawn(self._welcome(client, _address(address[0]), address[1]))

    def _accept_again(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _welcome(self, client: socket.socket, peer: str, port: int) -> None:
        """From accept to the protocol, within one deadline."""
        started = monotonic()
        arrival = Arrival(peer=peer, peer_port=port, started=started)
        error: AccessError
        handed_over = False
        try:
            async with asyncio.timeout(self._door.pre_auth_s):
                if self._binding.proxy_from is not None:
                    arrival = await self._preamble(client, arrival)
                handed_over = True
                await self._loop.connect_accepted_socket(
                    lambda: ClientConnection(self._door, arrival),
                    client,
                    ssl=self._door.tls.context,
                    ssl_handshake_timeout=self._door.pre_auth_s,
                    ssl_shutdown_timeout=_SHUTDOWN_S,
                )
            return
        except TimeoutError:
            error = ProtocolError("protocol.deadline", "too slow", detail="before the TLS handshake was over")
        except AccessError as refusal:
            error = refusal
        except ssl.SSLCertVerificationError as refusal:
            error = ProtocolError("protocol.certificate", "certificate refused", detail=refusal.verify_message)
        except ssl.SSLError as refusal:
            code = "protocol.certificate" if "CERTIFICATE" in str(refusal.reason) else "protocol.tls"
            error = ProtocolError(code, "the handshake failed", detail=str(refusal.reason or refusal))
        except OSError as refusal:
            error = ProtocolError("protocol.tls", "the handshake failed", detail=type(refusal).__name__)
        except Exception as bug:
            error = Internal("internal", "an internal error", detail=repr(bug))
        finally:
            if not handed_over:
                client.close()
        self._door.gate.failed_connection(
            listener=self._door.listener, peer=arrival.peer, peer_port=arrival.peer_port, error=error
        )

    async def _preamble(self, client: socket.socket, arrival: Arrival) -> Arrival:
        """Reads exactly one PROXY header and believes it, if it comes from a listed balancer."""
        balancer = ipaddress.ip_address(arrival.peer)
        trusted = self._binding.proxy_from or ()
        if not any(balancer in network for network in trusted):
            raise ProtocolError("protocol.proxy-header", "not a listed balancer", detail="untrusted source")
        raw = b""
        while (missing := proxyproto.needed(raw)) > 0:
            data = await self._loop.sock_recv(client, missing)
            if not data:
                raise ProtocolError("protocol.proxy-header", "closed in the PROXY header", detail="incomplete")
            raw += data
        header = proxyproto.decode(raw)
        if header.crc32c_valid is False or header.aws_tlv_malformed:
            raise ProtocolError("protocol.proxy-header", "the PROXY header is damaged", detail="bad_tlv")
        if header.command == "LOCAL":
            return arrival  # a health check by the balancer itself: the socket's peer is the truth (PROXY v2 §2.2)
        if header.source is None or header.source_port is None or header.family not in ("inet", "inet6"):
            raise ProtocolError("protocol.proxy-header", "an address family not served here", detail="bad_family")
        return Arrival(
            peer=_address(header.source),
            peer_port=header.source_port,
            started=arrival.started,
            balancer=arrival.peer,
            vpce_id=header.vpce_id,
        )
