"""The request target: one spelling for everything it could be read as, or none at all.

An upstream may decode once more than we do, merge slashes, drop `;` and what follows, fold compatibility characters or
strip dots and spaces. A target that means something else under any of these readings is refused, so the one left over
is safe to route, judge, log and forward (S01, S02). Exactly two rewrites are made, both from RFC 3986 §6.2.2: hex
digits of escapes become upper case, escaped unreserved characters are decoded. The query is forwarded as it came.

Nearly every target is plain already: one regular expression says so and finds its parts. Everything else goes the
careful way below.

Source: RFC 9112 §3.2, RFC 3986 §3.3 and §6.2.2.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from unicodedata import category, normalize

from ztproxy.errors import ProtocolError
from ztproxy.wire.host import parse_authority

LONGEST_TARGET: Final = 8 * 1024

SEMICOLONS: Final = "semicolons"
ENCODED_SLASHES: Final = "encoded_slashes"
EMPTY_SEGMENTS: Final = "empty_segments"
NOTHING: Final[frozenset[str]] = frozenset()

# pchar of RFC 3986 §3.3 without `;` and `%`. A segment is not empty and not only dots, but for a last empty one.
_PLAIN_PATH: Final = rb"(?=/)(?:/\.*+[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*+)*+/?+"
# LENIENT: browsers send `[ ] ^ { | } \` and the backtick raw in queries (URL standard, query percent-encode set);
# test_characters_browsers_leave_raw pins it. Malformed escapes in a query are for the upstream to judge.
_QUERY: Final = rb"[!$-;=?-~]*+"
_PLAIN: Final = re.compile(rb"(" + _PLAIN_PATH + rb")(?:\?(" + _QUERY + rb"))?+")
_QUERY_ONLY: Final = re.compile(_QUERY)
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)
# LENIENT: `[ ] |` are not pchars, yet browsers send them raw in paths (URL standard, path percent-encode set).
_RAW_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9_~!$&'()*+,;=:@./|\[\]-]|%[0-9A-Fa-f]{2})*+")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_REWRITES: Final = {b"%02x" % byte: bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte for byte in range(256)}
_ESCAPED_TWICE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NO_WEIGHT: Final = frozenset(("Zs", "Zl", "Zp", "Cf"))
"""Unicode categories of spaces and of invisible format characters."""
_LIBERTIES: Final = {
    SEMICOLONS: "has a `;` in its path",
    ENCODED_SLASHES: "has an escaped slash",
    EMPTY_SEGMENTS: "has an empty segment",
}


class Target(NamedTuple):
    """A request target in its one spelling. A tuple: it is made for every request, and is the cheapest of all nouns."""

    path: str
    """Canonical and ASCII, from its leading slash; `*` for the asterisk form."""
    query: bytes | None
    """As received; None: there is no `?`."""
    forward: bytes
    """What the upstream is sent: the path, and the query behind its `?`."""
    authority: bytes | None = None
    """Of an absolute-form target, well-formed, as received; whoever called compares it with Host."""
    uses: frozenset[str] = NOTHING
    """Which of the liberties in `allow` the path makes use of: its route must grant every one of them."""


def _bad(why: str) -> ProtocolError:
    return ProtocolError("protocol.target", f"the request target {why}", detail=why)


def canonical_target(raw: bytes, *, options: bool = False, allow: frozenset[str] = NOTHING) -> Target:
    """The target in its one spelling; `options` says that the method is OPTIONS, which alone may ask for `*`.

    `allow` names what some route permits in a path: `semicolons`, `encoded_slashes`, `empty_segments`.
    Raises: `ProtocolError` with code `protocol.target` or `protocol.target-size`.
    """
    if len(raw) <= LONGEST_TARGET and (plain := _PLAIN.fullmatch(raw)) is not None:
        path, query = plain.groups()
        return Target(path.decode("ascii"), query, raw)
    return _careful(raw, options, allow)


def _careful(raw: bytes, options: bool, allow: frozenset[str]) -> Target:
    if len(raw) > LONGEST_TARGET:
        raise ProtocolError("protocol.target-size", f"the request target is longer than {LONGEST_TARGET} bytes")
    if raw == b"*":
        if not options:
            raise _bad("is `*`, which only OPTIONS may ask for")
        return Target("*", None, raw)
    authority, rest = _split_authority(raw)
    if b"#" in rest:
        raise _bad("has a fragment")
    raw_path, mark, raw_query = rest.partition(b"?")
    if _QUERY_ONLY.fullmatch(raw_query) is None:
        raise _bad("has a byte in its query that no URI may hold")
    path, uses = _canonical_path(raw_path)
    for liberty, why in _LIBERTIES.items():
        if liberty in uses and liberty not in allow:
            raise _bad(why)
    return Target(path, raw_query if mark else None, path.encode("ascii") + mark + raw_query, authority, uses)


def _split_authority(raw: bytes) -> tuple[bytes | None, bytes]:
    if raw.startswith(b"/"):
        return None, raw
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        raise _bad("is neither a path nor an http or https URI")
    parse_authority(absolute[1])
    # RFC 9112 §3.2.1: an empty path is sent on as `/`.
    return absolute[1], absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


def _canonical_path(raw_path: bytes) -> tuple[str, frozenset[str]]:
    """The path after the two rewrites, and the liberties it takes; refused is what no liberty covers."""
    if _RAW_PATH.fullmatch(raw_path) is None:
        raise _bad("has a byte in its path that no URI may hold, or a malformed escape")
    path = _ESCAPE.sub(lambda escape: _REWRITES[escape[1].lower()], raw_path)
    try:
        text = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode("ascii")), path).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("has escapes that are not UTF-8") from None
    # From here on `text` is what the most eager reader sees: all escapes decoded, compatibility characters folded.
    text = normalize("NFKC", text)
    if _CONTROL.search(text) is not None:
        raise _bad("has a control character")
    if "\\" in text:
        raise _bad("has a backslash")
    if _ESCAPED_TWICE.search(text) is not None:
        raise _bad("is escaped twice")
    uses = set()
    if ";" in text:
        uses.add(SEMICOLONS)
    if text.count("/") != path.count(b"/"):
        uses.add(ENCODED_SLASHES)
    *inner, last = text.split("/")[1:]
    # INVARIANT: every segment is looked at, for a dot segment is refused whatever else a route allows.
    filled = [_is_filled(segment) for segment in ((*inner, last) if last else inner)]
    if not all(filled):
        uses.add(EMPTY_SEGMENTS)
    return path.decode("ascii"), frozenset(uses)


def _is_filled(segment: str) -> bool:
    """Whether something is left of a segment when parameters, spaces, dots and the invisible are dropped."""
    name = segment.partition(";")[0]
    if any(character != "." and category(character) not in _NO_WEIGHT for character in name):
        return True
    if "." in name:
        raise _bad("has a dot segment")
    return False
