"""HTTP/1.1 request heads: read by httptools, then held to our own stricter rules.

`read_head` takes the bytes up to and including the empty line and returns a `RequestHead` or raises. No parser is
strict enough for a security proxy alone, so what llhttp accepted is checked again: one Host, one unambiguous length,
no bare CR or LF, no folded line, no control byte, no credential twice. What goes upstream is serialised anew from the
parts (`forward_fields`), never copied.

Source: RFC 9110, RFC 9112 §2-7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import httptools

from ztproxy.errors import ProtocolError
from ztproxy.wire.fields import (
    AGENT,
    AUTHORIZATION,
    CODING,
    CONNECTION,
    DROP,
    EXPECT,
    HOP_BY_HOP,
    HOST,
    LENGTH,
    PROTECTED_HOPS,
    REFERER,
    fold,
    is_asserted,
    request_kind,
    request_kinds,
)
from ztproxy.wire.target import LONGEST_TARGET

LONGEST_FIELD: Final = 16 * 1024
LONGEST_HEAD: Final = 32 * 1024
MOST_FIELDS: Final = 100

_FIELD_BYTES: Final = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
"""What may stand in a head beside its line ends: HTAB, SP, VCHAR, obs-text (RFC 9110 §5.5)."""
_LINE_ENDS: Final = tuple(b"\r\n" * count for count in range(MOST_FIELDS + 3))
_METHODS: Final = {
    name.encode(): name
    for name in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY", "SEARCH", "REPORT", "PURGE"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "LINK", "UNLINK", "ACL", "BIND"),
    )
}
"""STRICTER: CONNECT and TRACE have no meaning behind a gate that judges paths."""
_TOKEN: Final = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+ ")
_PLAIN_LINE: Final = re.compile(rb"([A-Z]{3,9}) (/[!-~]*) HTTP/1\.1\r\n")
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_KNOWN_OPTIONS: Final = frozenset((b"close", b"keep-alive"))


@dataclass(slots=True, kw_only=True)
class RequestHead:
    """One request head, checked; filled in a single pass and not changed afterwards."""

    method: str = ""
    raw_target: bytes = b""
    raw_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    minor: int = 1
    """HTTP/1.`minor`."""
    host: bytes = b""
    length: int | None = None
    """Content-Length; None: absent."""
    chunked: bool = False
    close: bool = False
    """The client wants the connection closed after this exchange."""
    authorization: bytes | None = None
    expect_continue: bool = False
    user_agent: bytes = b""
    referer: bytes = b""
    hops: frozenset[bytes] = _NO_NAMES
    """Folded names that `Connection` declared hop-by-hop."""
    passed: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Fields that may go on: neither hop-by-hop, nor a credential, nor anything the caller asserts about itself."""

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow."""
        return self.chunked or bool(self.length)

    def first(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        for given, value in self.raw_headers:
            if given.lower() == name:
                return value
        return None


class _Events:
    """Collects httptools' callbacks."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def _bad(why: str) -> ProtocolError:
    return ProtocolError("protocol.head", "the request head is malformed", detail=why)


def _framing(why: str) -> ProtocolError:
    return ProtocolError("protocol.framing", "the length of the request is ambiguous", detail=why)


def read_head(raw: bytes) -> RequestHead:
    """The request head in `raw`, which ends with the empty line.

    Raises: `ProtocolError`.
    """
    events = _Events()
    parser = httptools.HttpRequestParser(events)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer of another protocol; ignoring it is always right (RFC 9110 §7.8)
    except httptools.HttpParserInvalidMethodError:
        if not _TOKEN.match(raw):
            raise _bad("the request line does not begin with a method") from None
        raise ProtocolError("protocol.method", "the method is not supported") from None
    except httptools.HttpParserError as error:
        raise _refusal(raw, str(error)) from None
    headers = events.headers
    head = RequestHead(raw_target=events.target, raw_headers=headers)
    _check_bytes(raw, head)
    _classify(head, parser.get_method())
    version = parser.get_http_version()
    if version != "1.1":
        _check_old_version(head, version)
    return head


def _refusal(raw: bytes, why: str) -> ProtocolError:
    """Names what the parser refused; an over-long request line is told apart."""
    method, _, rest = raw[: LONGEST_TARGET + 64].partition(b" ")
    if method in (b"CONNECT", b"TRACE"):
        return ProtocolError("protocol.method", "the method is not supported")
    if rest.startswith(b" ") or b" " not in rest.partition(b"\r\n")[0]:
        return _bad("the request line is not `method target version`")
    if "transfer-encoding" in why.lower() or "content-length" in why.lower():
        return _framing(why)
    return _bad(why)


def _check_bytes(raw: bytes, head: RequestHead) -> None:
    """Refuses what llhttp lets through on the byte level."""
    count = len(head.raw_headers)
    if len(raw) > LONGEST_FIELD and any(len(value) > LONGEST_FIELD for _, value in head.raw_headers):
        raise ProtocolError("protocol.head-size", "a field of the request is too large")
    if len(head.raw_target) > LONGEST_TARGET:
        raise ProtocolError("protocol.target-size", "the request target is too long")
    if count > MOST_FIELDS:
        raise ProtocolError("protocol.head-size", "the request has too many fields")
    # INVARIANT: nothing but CRLFs is left, one for each line: no control byte, no bare CR or LF, no folded line.
    if raw.translate(None, _FIELD_BYTES) != _LINE_ENDS[count + 2] or raw.count(b"\r\n") != count + 2:
        raise _bad("a control byte, a bare CR or LF, or a folded line")
    line, _, _ = raw.partition(b"\r\n")
    if line.count(b" ") != 2 or b"\t" in line:
        raise _bad("the request line is not `method target version`")


def _classify(head: RequestHead, method: bytes) -> None:
    name_of_method = _METHODS.get(method)
    if name_of_method is None:
        raise ProtocolError("protocol.method", "the method is not supported")
    head.method = name_of_method
    hosts = 0
    known = request_kinds.get
    for pair in head.raw_headers:
        kind = known(pair[0])
        if kind is None:
            kind = request_kind(pair[0])
        if kind <= REFERER:
            if kind == DROP:
                continue
            head.passed.append(pair)
            if kind == AGENT:
                head.user_agent = pair[1]
            elif kind == REFERER:
                head.referer = pair[1]
        elif kind == HOST:
            hosts += 1
            head.host = pair[1]
        elif kind == AUTHORIZATION:
            if head.authorization is not None:
                raise ProtocolError("protocol.head", "the Authorization field came twice")
            head.authorization = pair[1]
        else:
            _look_at(head, kind, pair[1])
    if hosts != 1:
        raise ProtocolError("protocol.host", "exactly one Host field must come", detail=f"{hosts} came")
    if head.chunked and head.length is not None:
        raise _framing("both Transfer-Encoding and Content-Length")


def _look_at(head: RequestHead, kind: int, value: bytes) -> None:
    if kind == LENGTH:
        if head.length is not None:
            raise _framing("Content-Length came twice")
        # STRICTER: RFC 9110 §8.6 allows equal values in a list; 18 digits keep the sum below 2^63.
        if not value.isdigit() or len(value) > 18:
            raise _framing("Content-Length is not a number")
        head.length = int(value)
    elif kind == CODING:
        if head.chunked or value.lower() != b"chunked":
            raise _framing("a transfer coding other than a single `chunked`")
        head.chunked = True
    elif kind == CONNECTION:
        _connection(head, value)
    elif kind == EXPECT:
        if value.lower() != b"100-continue":
            raise ProtocolError("protocol.expect", "the expectation is not supported")
        head.expect_continue = True


def _connection(head: RequestHead, value: bytes) -> None:
    for option in value.lower().split(b","):
        name = option.strip(b" \t")
        if name == b"close":
            head.close = True
        elif name and name not in _KNOWN_OPTIONS:
            folded = fold(name)
            if folded in PROTECTED_HOPS or is_asserted(name):
                raise ProtocolError("protocol.hop", "a Connection option names a protected field")
            if folded not in HOP_BY_HOP:
                head.hops = head.hops | {folded}


def _check_old_version(head: RequestHead, version: str) -> None:
    if version != "1.0":
        raise _bad("the version is neither HTTP/1.0 nor HTTP/1.1")
    if head.chunked:
        raise _framing("Transfer-Encoding in an HTTP/1.0 message")
    head.minor = 0
    # STRICTER: persistence in HTTP/1.0 is an extension that proxies got wrong for decades (RFC 9112 §C.2.2).
    head.close = True
    head.expect_continue = False


def read_line(raw: bytes) -> tuple[str, bytes] | None:
    """Method and target of a plain HTTP/1.1 request line with its CRLF; None: `read_head` must judge it.

    For a client that repeats its fields to the byte: only the line is new then.
    """
    match = _PLAIN_LINE.fullmatch(raw)
    if match is None or len(raw) > LONGEST_TARGET:
        return None
    method = _METHODS.get(match[1])
    return None if method is None else (method, match[2])


def forward_fields(head: RequestHead) -> bytes:
    """The fields that go on, serialised; framing, Host, forwarding and identity fields are added behind them."""
    hops = head.hops
    if hops:
        return b"".join([b"%b: %b\r\n" % pair for pair in head.passed if fold(pair[0]) not in hops])
    return b"".join([b"%b: %b\r\n" % pair for pair in head.passed])
