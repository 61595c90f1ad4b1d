"""Requests as bytes, and connections seen from their end."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.proxy import ACCESS_KEY, SECRET_KEY, Connection


def head(method: str, path: str, *fields: str, host: str = "open.test", version: str = "1.1") -> bytes:
    """The head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", f"Host: {host}", *fields, "", "")).encode()


def chunks(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def soon(condition: Callable[[], object], *, seconds: float = 5.0) -> bool:
    """Whether it comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def unchunked(body: bytes) -> bytes:
    """What a chunked body holds."""
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            assert body == b"\r\n"
            return whole
        assert body[count : count + 2] == b"\r\n"
        whole, body = whole + body[:count], body[count + 2 :]


def narrow(chosen: Callable[[socket.socket], bool]) -> None:
    """Gives sockets of this process a small send buffer, as a slow path has; a listening one hands it on."""
    for each in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(each)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(each))) as found:
                if found.family == socket.AF_INET and chosen(found):
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)


def padded(size: int) -> bytes:
    """A head of exactly this size, in fields that are small enough."""
    start = b"GET / HTTP/1.1\r\nHost: open.test\r\n"
    left = size - len(start) - 2
    fields = []
    while left > 0:
        count = left if left <= 10_000 else min(10_000, left - 10)
        fields.append(b"A: " + b"x" * (count - 5) + b"\r\n")
        left -= count
    whole = start + b"".join(fields) + b"\r\n"
    assert len(whole) == size
    return whole


def ends(connection: Connection, *, seconds: float = 3.0) -> bool:
    """Whether the proxy ends the connection in time, with nothing more to say."""
    connection.socket.settimeout(seconds)
    try:
        return connection.ended()
    except TimeoutError:
        return False


def push(connection: Connection, size: int, *, seconds: float) -> int:
    """Sends so many bytes, or as many as are taken before none is for so long."""
    left, until, piece = size, time.monotonic() + seconds, b"x" * 2**18
    connection.socket.settimeout(0)
    while left and time.monotonic() < until:
        try:
            left -= connection.socket.send(piece[:left])
            until = time.monotonic() + seconds
        except ssl.SSLWantWriteError:
            time.sleep(0.002)
    connection.socket.settimeout(10)
    return size - left


def signed(
    body: bytes = b"",
    *,
    declare: bytes | None = None,
    method: str = "POST",
    fields: tuple[str, ...] = (),
    host: str = "localhost",
) -> bytes:
    """A request signed by botocore, without its body; `declare` is the body whose hash it names in a signed field."""
    request = AWSRequest(method=method, url=f"https://{host}/orders", data=body)
    request.headers["Host"] = host
    if declare is not None:
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(declare).hexdigest()
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "execute-api", "eu-west-1").add_auth(request)
    lines = [f"{name}: {value}" for name, value in request.headers.items() if name != "Host"]
    return head(method, "/orders", *lines, *fields, host=host)


def vanish(connection: Connection, how: str) -> None:
    """The client is gone, by a reset or in order."""
    if how == "reset":
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


def all_of(connection: Connection) -> bytes:
    """Everything until the proxy ends the connection in order."""
    whole = b""
    while data := connection.socket.recv(65536):
        whole += data
    return whole


def cut(connection: Connection) -> bool:
    """Whether the answer breaks off."""
    try:
        connection.answer()
    except EOFError:
        return True
    return False


MIB = bytes(range(256)) * 4096
MIB_IN_CHUNKS = chunks(*[MIB[at : at + 9_999] for at in range(0, len(MIB), 9_999)])
