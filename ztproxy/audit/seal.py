"""Canonical JSON and the hash chain that makes a record impossible to change quietly.

A **body** is one JSON object in RFC 8785 (JCS) bytes. orjson gives exactly those bytes as long as four rules hold, and
`canonical` holds them: keys are ASCII (so UTF-16 order is byte order), integers lie within 2**53 - 1, there is no
float, every string is text that UTF-8 can carry.

A **line** is a body at its place in a chain, itself canonical JSON, so the tail after the body has a known shape and
the body is cut out without parsing:

    {"body":<body>,"chain":"<chain>","hash":"<64 hex>","prev":"<64 hex>","seq":<n>}

    hash(n) = SHA-256( "ztproxy-audit/1" NUL chain NUL n NUL hash(n-1) NUL body )      n decimal, hashes lower hex
    hash(0) = SHA-256( "ztproxy-audit/1" NUL chain NUL "0" NUL NUL )                   so `seq` starts at 1

No field before the body can hold a NUL, so no two different records share their hash input. The chain shows change,
removal, insertion and reordering; it holds no secret, so only a copy of a head kept elsewhere shows that everything
from some point on was rewritten or that the tail was taken away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

DOMAIN: Final = b"ztproxy-audit/1"
CHAIN_PATTERN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)
INTEGER_MAX: Final = 2**53 - 1
BODY_BYTES_MAX: Final = 1024 * 1024
LINE_BYTES_MAX: Final = BODY_BYTES_MAX + 512
"""No sealed line is longer: 64 characters of chain, two hashes and 16 digits fit the rest."""

_HEAD: Final = b'{"body":'
_FIXED_TAIL: Final = len(b',"chain":"","hash":"","prev":"","seq":}') + 128
_LINE: Final = re.compile(
    rb'\{"body":(\{.*\}),"chain":"([a-z0-9-]{1,64})","hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","seq":([1-9][0-9]{0,15})\}',
    re.DOTALL,
)


class NotCanonical(ValueError):
    """A value that has no agreed canonical form here."""


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value; an `orjson.Fragment` must hold canonical bytes already.

    Walks the value: meant for rare records and for parts that are serialised once.
    Raises: `NotCanonical` for floats, integers beyond 2**53 - 1, keys that are not ASCII text, lone surrogates.
    Source: RFC 8785 §3.2.
    """
    _check(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise NotCanonical(str(error)) from None


def _check(value: Any) -> None:
    kind = type(value)
    if kind is dict:
        for key, member in value.items():
            if type(key) is not str or not key.isascii():
                raise NotCanonical(f"key `{key!r}` is not ASCII text")
            _check(member)
    elif kind is list or kind is tuple:
        for member in value:
            _check(member)
    elif kind is int:
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise NotCanonical(f"integer `{value}` is beyond 2**53 - 1")
    elif value is not None and kind not in (str, bool, orjson.Fragment):
        raise NotCanonical(f"a value of type `{kind.__name__}` has no canonical form")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a chain: the last sequence number sealed and its hash."""

    chain: str
    seq: int
    head: bytes
    """64 lower hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLine:
    """A line taken apart, not judged."""

    body: bytes
    chain: str
    hash: bytes
    prev: bytes
    seq: int

    @property
    def consistent(self) -> bool:
        """Whether its hash fits its own fields, whatever stands before it."""
        return link(self.chain, self.seq, self.prev, self.body) == self.hash


def link(chain: str, seq: int, prev: bytes, body: bytes) -> bytes:
    """The hash of one record, 64 lower hex digits."""
    text = b"%b\0%b\0%d\0%b\0%b" % (DOMAIN, chain.encode(), seq, prev, body)
    return sha256(text).hexdigest().encode()


def genesis(chain: str) -> Position:
    """The place before the first record of a chain.

    Raises: `ValueError` for a chain id outside `[a-z0-9-]`, 1 to 64 characters, no `-` at the ends.
    """
    if CHAIN_PATTERN.fullmatch(chain) is None:
        raise ValueError(f"chain id `{chain}` is not 1 to 64 characters of a-z, 0-9 and inner `-`")
    return Position(chain=chain, seq=0, head=link(chain, 0, b"", b""))


def cut(line: bytes) -> SealedLine | None:
    """The parts of a line (without its newline), or None where it is no sealed line at all."""
    match = _LINE.fullmatch(line) if len(line) <= LINE_BYTES_MAX else None
    if match is None:
        return None
    body, chain, own, prev, seq = match.groups()
    return SealedLine(body=body, chain=chain.decode(), hash=own, prev=prev, seq=int(seq))


class Sealer:
    """One chain being written: `seq` and `head` move with every `seal`."""

    __slots__ = ("_frame", "_prefix", "chain", "head", "seq")

    def __init__(self, position: Position) -> None:
        self.chain: Final = position.chain
        self.seq = position.seq
        self.head = position.head
        self._prefix: Final = b"%b\0%b\0" % (DOMAIN, position.chain.encode()) + b"%d\0%b\0%b"
        self._frame: Final = (
            b'{"body":%b,"chain":"' + position.chain.encode() + b'","hash":"%b","prev":"%b","seq":%d}\n'
        )

    @property
    def position(self) -> Position:
        """Where the chain stands."""
        return Position(chain=self.chain, seq=self.seq, head=self.head)

    def seal(self, body: bytes) -> bytes:
        """The next line, newline included, around canonical bytes of one object.

        Raises: `ValueError` for a body no line can hold; the chain has not moved then.
        """
        if len(body) > BODY_BYTES_MAX or body[:1] != b"{" or b"\n" in body:
            raise ValueError("a record body is one canonical JSON object of at most 1 MiB")
        prev = self.head
        self.seq = seq = self.seq + 1
        self.head = head = sha256(self._prefix % (seq, prev, body)).hexdigest().encode()
        return self._frame % (body, head, prev, seq)

    def follows(self, line: bytes) -> bool:
        """Whether the line (without its newline) is the next one; moves on only if so."""
        seq, head = self.seq, self.head
        tail = _FIXED_TAIL + len(self.chain) + len(b"%d" % (seq + 1))
        try:
            if self.seal(line[len(_HEAD) : -tail])[:-1] == line:
                return True
        except ValueError:
            return False
        self.seq, self.head = seq, head
        return False


def verify_lines(lines: Iterable[bytes], after: Position) -> Position:
    """Where the chain stands after the longest run of leading lines (without newlines) that continue it.

    All of them held if the `seq` of the answer has grown by their number.
    """
    sealer = Sealer(after)
    for line in lines:
        if not sealer.follows(line):
            break
    return sealer.position
