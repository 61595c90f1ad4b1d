"""The chunked coding, read strictly (RFC 9112 §7.1).

States: size line, data, the CRLF behind data, trailer section, done. Only `CRLF` ends a line, sizes are plain hex
digits, extensions are bounded and dropped, trailers are bounded and dropped. `feed` stops at the exact end of the
message: what follows belongs to the next one.
"""

from __future__ import annotations

import re
from typing import Final

from ztproxy.errors import ProtocolError

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
"""STRICTER: RFC 9112 sets no bound on digits; 15 keep the size below 2^60."""
_TRAILER_LINE: Final = re.compile(rb"([!#-'*+.^_`|~0-9A-Za-z-]+):[\t -~\x80-\xff]*")
_LONGEST_SIZE_LINE: Final = 16 + 256
_LONGEST_TRAILERS: Final = 8192
_FORBIDDEN_TRAILERS: Final = frozenset(
    (b"transfer-encoding", b"content-length", b"host", b"authorization", b"connection", b"te", b"trailer")
)
LAST_CHUNK: Final = b"0\r\n\r\n"


def frame(data: bytes) -> bytes:
    """One chunk holding `data`, which must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _bad(why: str) -> ProtocolError:
    return ProtocolError("protocol.framing", "the chunked body is malformed", detail=why)


class ChunkReader:
    """Takes the chunked coding off a body, in whatever pieces it arrives."""

    __slots__ = ("_left", "_line", "_trailers", "done")

    def __init__(self) -> None:
        self._left = -1
        """Data bytes left of this chunk; -1: in a size line; -2: before the CRLF behind data; -3: in trailers."""
        self._line = b""
        self._trailers = 0
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The body bytes in `data`, and what follows the end of the message.

        Raises: `ProtocolError`.
        """
        out: list[bytes] = []
        position = 0
        if self._line:
            data = self._line + data
            self._line = b""
        size = len(data)
        while position < size and not self.done:
            if self._left > 0:
                end = min(position + self._left, size)
                out.append(data[position:end])
                self._left -= end - position
                position = end
                if self._left == 0:
                    self._left = -2
                continue
            position = self._framing(data, position)
            if self._line:
                break
        return b"".join(out) if len(out) != 1 else out[0], data[position:] if self.done else b""

    def _framing(self, data: bytes, position: int) -> int:
        """Reads one line of framing; keeps an incomplete one in `_line`."""
        if self._left == -2:
            if len(data) - position == 1 and data[position] == 0x0D:
                self._line = data[position:]
                return len(data)
            if data[position : position + 2] != b"\r\n":
                raise _bad("no CRLF behind the chunk data")
            self._left = -1
            return position + 2
        end = data.find(b"\n", position)
        if end < 0:
            if len(data) - position > (_LONGEST_SIZE_LINE if self._left == -1 else _LONGEST_TRAILERS):
                raise _bad("a line of the chunked framing is too long")
            self._line = data[position:]
            return len(data)
        line = data[position : end - 1]
        if end == position or data[end - 1] != 0x0D:
            raise _bad("a line of the chunked framing ends without CR")
        if self._left == -1:
            self._size_line(line)
        else:
            self._trailer_line(line)
        return end + 1

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(line) > _LONGEST_SIZE_LINE:
            raise _bad("a chunk size is malformed")
        size = int(match[1], 16)
        self._left = size if size else -3

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        match = _TRAILER_LINE.fullmatch(line)
        if match is None or self._trailers > _LONGEST_TRAILERS:
            raise _bad("a trailer field is malformed or too large")
        if match[1].lower() in _FORBIDDEN_TRAILERS:
            raise _bad("a trailer field may not steer framing, routing or identity")
