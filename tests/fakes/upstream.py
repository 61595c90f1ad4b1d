"""An upstream that keeps every byte it gets and answers as it is told: honestly, slowly, wrongly or not at all."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]+)\r$")


@dataclass
class Received:
    """One request as it arrived."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, exactly as spelled in lower case."""
        fields = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [value.strip() for given, _, value in fields if given.lower() == name]


Answer = Callable[["Upstream", socket.socket, Received], bool]
"""Answers one request on the socket; whether the connection goes on."""


def respond(body: bytes = b"hello", *, status: bytes = b"200 OK", fields: bytes = b"") -> Answer:
    """An honest counted answer."""

    def answer(_: Upstream, connection: socket.socket, __: Received) -> bool:
        connection.sendall(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body))
        return True

    return answer


def raw(data: bytes, *, close: bool = False) -> Answer:
    """These bytes, and then perhaps the end."""

    def answer(_: Upstream, connection: socket.socket, __: Received) -> bool:
        connection.sendall(data)
        return not close

    return answer


def echo(_: Upstream, connection: socket.socket, request: Received) -> bool:
    """What arrived, as JSON."""
    body = json.dumps({"line": request.line.decode("latin-1"), "body": request.body.decode("latin-1")}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(head + (b"" if request.line.startswith(b"HEAD ") else body))
    return True


@dataclass
class Upstream:
    """A threaded HTTP server on loopback."""

    answer: Answer = echo
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    _sockets: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        self._sockets.add(connection)
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            buffer = b""
            while True:
                request, buffer = self._read(connection, buffer, number)
                if request is None:
                    return
                self.requests.append(request)
                if not self.answer(self, connection, request):
                    return
        except OSError:
            return
        finally:
            self.closed += 1
            self._sockets.discard(connection)
            with suppress(OSError):
                connection.close()

    def _read(self, connection: socket.socket, buffer: bytes, number: int) -> tuple[Received | None, bytes]:
        while b"\r\n\r\n" not in buffer:
            data = connection.recv(65536)
            if not data:
                return None, b""
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        head += b"\r\n"
        length = _LENGTH.search(head)
        body = b""
        if length is not None:
            while len(buffer) < int(length[1]):
                data = connection.recv(65536)
                if not data:
                    return None, b""
                buffer += data
            body, buffer = buffer[: int(length[1])], buffer[int(length[1]) :]
        elif b"\r\ntransfer-encoding: chunked\r\n" in head.lower():
            while not buffer.endswith(b"0\r\n\r\n"):
                data = connection.recv(65536)
                if not data:
                    return None, b""
                buffer += data
            body, buffer = buffer, b""
        return Received(head, body, number), buffer

    def cut(self) -> None:
        """Drops every connection, as a crash does."""
        for connection in tuple(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the server."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
