"""HTTP/1.1 response heads from an upstream, which may be broken or hostile.

`read_response` takes the bytes up to and including the empty line, checks them whole and says how the body is framed.
Anything a second reader could understand differently is refused: the client then gets a 502 and the connection is
not used again.

Source: RFC 9112 §4, §6.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ztproxy.errors import UpstreamError
from ztproxy.wire.fields import dropped_from_answer

LONGEST_RESPONSE_HEAD: Final = 64 * 1024
MOST_RESPONSE_FIELDS: Final = 200

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_NAME_BYTES: Final = bytes(sorted(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
_FIELD_BYTES: Final = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_KNOWN_OPTIONS: Final = frozenset((b"close", b"keep-alive", b""))
_MOST_LINES: Final = 4096
_LONGEST_KEPT_LINE: Final = 128
_NEVER_KEPT: Final = frozenset((b"set-cookie", b"authorization", b"www-authenticate", b"location"))

_MOST_HEADS: Final = 256

_known_heads: dict[bytes, ResponseHead] = {}
"""Heads that came before to the byte and hold only known lines: a busy upstream repeats them within a second."""
_known_lines: dict[bytes, bytes] = {}
"""Lines that upstreams repeat in every answer, and what the client gets for them: checked once."""


class Framing(Enum):
    """How the end of a response body is known."""

    NONE = "none"
    COUNTED = "counted"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(slots=True, kw_only=True)
class ResponseHead:
    """One response head, checked; never changed once it is read."""

    status: int
    framing: Framing
    length: int = 0
    """Body bytes to come when `framing` is `COUNTED`."""
    declared_length: int | None = None
    """Content-Length as sent, which an answer to HEAD carries without a body."""
    keep: bool = True
    """Whether the upstream means to keep the connection."""
    dated: bool = False
    """Whether a Date field came; one is added where it did not (RFC 9110 §6.6.1)."""
    hops: frozenset[bytes] = frozenset()
    """Lower-case names that `Connection` declared hop-by-hop."""
    fields: bytes = b""
    """Fields that go on to the client, serialised with their CRLFs."""


def _bad(why: str) -> UpstreamError:
    return UpstreamError("upstream.response", "the upstream's answer was malformed", detail=why)


def read_response(raw: bytes, method: str) -> ResponseHead:
    """The response head in `raw`, which ends with the empty line, as the answer to `method`.

    Raises: `UpstreamError`.
    """
    known_head = _known_heads.get(raw)
    if known_head is not None and method != "HEAD":
        return known_head
    if raw.translate(None, _FIELD_BYTES) != b"\r\n" * raw.count(b"\r\n"):
        raise _bad("a control byte, or a bare CR or LF")
    status_line, *fields = raw[:-4].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise _bad("the status line is malformed")
    if len(fields) > MOST_RESPONSE_FIELDS:
        raise _bad("too many fields")
    head = ResponseHead(status=int(match[2]), framing=Framing.CLOSE, keep=match[1] == b"1")
    known = _known_lines
    lines: list[bytes] = []
    chunked = False
    repeated = method != "HEAD"
    for line in fields:
        passed = known.get(line)
        if passed is not None:
            lines.append(passed)
            continue
        name, colon, value = line.partition(b":")
        # A folded line begins with a blank, which no name contains, so obs-fold is refused here too.
        if not colon or not name or name.translate(None, _NAME_BYTES):
            raise _bad("a field name is malformed")
        lower = name.lower()
        if dropped_from_answer(name):
            chunked = _look_at(head, lower, value.strip(b" \t"), chunked)
            continue
        repeated = False
        passed = b"%b: %b\r\n" % (name, value.strip(b" \t"))
        lines.append(passed)
        if len(line) <= _LONGEST_KEPT_LINE and lower not in _NEVER_KEPT:
            if len(known) >= _MOST_LINES:
                known.clear()
            known[line] = passed
    if head.hops:
        lines = [line for line in lines if line.partition(b":")[0].lower() not in head.hops]
    head.fields = b"".join(lines)
    head.dated = b"\r\ndate:" in b"\r\n" + head.fields.lower()
    _frame(head, method, chunked, old=match[1] == b"0")
    if repeated:
        if len(_known_heads) >= _MOST_HEADS:
            _known_heads.clear()
        _known_heads[raw] = head
    return head


def _look_at(head: ResponseHead, name: bytes, value: bytes, chunked: bool) -> bool:
    if name == b"content-length":
        if head.declared_length is not None or not value.isdigit() or len(value) > 18:
            raise _bad("Content-Length is malformed or came twice")
        head.declared_length = int(value)
    elif name == b"transfer-encoding":
        if chunked or value.lower() != b"chunked":
            raise _bad("a transfer coding other than a single `chunked`")
        return True
    elif name == b"connection":
        options = {option.strip(b" \t") for option in value.lower().split(b",")}
        if b"close" in options:
            head.keep = False
        head.hops |= options - _KNOWN_OPTIONS
    return chunked


def _frame(head: ResponseHead, method: str, chunked: bool, *, old: bool) -> None:
    if chunked and (head.declared_length is not None or old):
        raise _bad("Transfer-Encoding beside Content-Length or in HTTP/1.0")
    if head.status < 200 or head.status == 204:
        if chunked or head.declared_length:
            raise _bad("a body where the status allows none")
        head.declared_length = None
        head.framing = Framing.NONE
    elif method == "HEAD" or head.status == 304:
        head.framing = Framing.NONE
    elif chunked:
        head.framing = Framing.CHUNKED
    elif head.declared_length is not None:
        head.framing = Framing.COUNTED if head.declared_length else Framing.NONE
        head.length = head.declared_length
    else:
        head.keep = False
