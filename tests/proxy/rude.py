"""Upstreams without manners: silent, dripping, deaf, or whatever a test wants."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.fakes.upstream import Received, Upstream
from tests.proxy.wires import MIB_IN_CHUNKS


class RudeServer:
    """A server without manners: what it does with a connection is the test's business."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[bytearray] = []
        """What came on each connection."""
        self.open: set[socket.socket] = set()
        self.hears = threading.Event()
        self.speak: Callable[[RudeServer, socket.socket, bytearray], None] = RudeServer.listen
        threading.Thread(target=self._accept, daemon=True).start()

    def listen(self, connection: socket.socket, heard: bytearray) -> None:
        """Reads all there is and never answers."""
        while data := connection.recv(65536):
            heard += data

    def until(self, mark: bytes, connection: socket.socket, heard: bytearray) -> None:
        """Reads until something came."""
        while mark not in heard:
            data = connection.recv(65536)
            if not data:
                raise EOFError
            heard += data

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            heard = bytearray()
            self.heard.append(heard)
            self.open.add(connection)
            threading.Thread(target=self._serve, args=(connection, heard), daemon=True).start()

    def _serve(self, connection: socket.socket, heard: bytearray) -> None:
        with connection, suppress(OSError, EOFError):
            try:
                self.speak(self, connection, heard)
            finally:
                self.open.discard(connection)

    def drop(self) -> None:
        """Ends every connection, and forgets what was heard."""
        self.hears.set()
        while self.open:
            with suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)
        self.heard.clear()
        self.hears.clear()

    def close(self) -> None:
        """Ends the server."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()


def silent_after(data: bytes) -> Callable[[Upstream, socket.socket, Received], bool]:
    """These bytes, and then nothing until the other side has gone."""

    def answer(_: Upstream, connection: socket.socket, __: Received) -> bool:
        connection.sendall(data)
        return connection.recv(1) != b""

    return answer


def dripping(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """A byte now and then, for two seconds."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _second in range(40):
        connection.sendall(b".")
        time.sleep(0.05)
    return False


def deaf(self: RudeServer, connection: socket.socket, heard: bytearray) -> None:
    """Answers `GET /first`, then stops reading with the next head until told to hear; answers once it heard all."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    self.until(b"\r\n\r\n", connection, heard)
    if b"GET /first" in heard:
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        heard.clear()
        self.until(b"\r\n\r\n", connection, heard)
    self.hears.wait(10)
    start, _, body = bytes(heard).partition(b"\r\n\r\n")
    left = int(start.lower().partition(b"content-length: ")[2].split()[0]) - len(body)
    while left > 0 and (data := connection.recv(2**20)):
        left -= len(data)
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def answering(data: bytes) -> Callable[[RudeServer, socket.socket, bytearray], None]:
    """Answers a head with these bytes, without waiting for a body, and then only reads."""

    def speak(self: RudeServer, connection: socket.socket, heard: bytearray) -> None:
        self.until(b"\r\n\r\n", connection, heard)
        connection.sendall(data)
        self.listen(connection, heard)

    return speak


def taking_its_time(_: Upstream, connection: socket.socket, __: Received) -> bool:
    """Answers after a while."""
    time.sleep(0.2)
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    return True


def dying_on_reuse() -> Callable[[Upstream, socket.socket, Received], bool]:
    """Answers one request on every connection, and closes at the second."""
    met: set[int] = set()

    def answer(_: Upstream, connection: socket.socket, request: Received) -> bool:
        if request.connection in met:
            return False
        met.add(request.connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    return answer


BODILESS = {
    "head": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "5"),
    "head, length unknown": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
    "no content": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
    "not modified": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", 304, "5"),
    "empty": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "0"),
}
TRUNCATED = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
}
NO_ANSWERS: dict[str, tuple[bytes, int, str]] = {
    "closes without a word": (b"", 502, "upstream.closed"),
    "closes in the head": (b"HTTP/1.1 200 OK\r\nConte", 502, "upstream.closed"),
    "no http": (b"220 smtp\r\n\r\n", 502, "upstream.response"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 502, "upstream.response"),
    "unasked upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "upstream.response"),
}
CHUNKED_MIB = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + MIB_IN_CHUNKS
