"""The strict reader of JWS compact serialisations: bytes -> header, payload, signature, nothing judged yet.

Libraries disagree on repeated members, encodings and padding, and every disagreement was once a bypass. This reader
takes only what all of them read alike:

1. at most 16 KiB of three base64url parts, each in the one spelling an encoder writes (no padding, no junk, no spare
   bits);
2. a header that is one JSON object of UTF-8 with unique members, only `alg`, `kid`, `typ`, `x5t`, all strings;
3. members of the payload unique at every level, numbers finite (`read_object`).

Uniqueness is shown by a round trip: what orjson reads and writes back byte for byte had no repeated member, for the
repetition would be missing. Only a text that was not written compactly needs the slower reader that looks at pairs.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from ztproxy.errors import Unauthenticated

MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 1024
"""Of the encoded header; four short strings fit many times over, and parsed headers are kept by their bytes."""
MAX_KID_CHARACTERS: Final = 256

_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ", "x5t"})
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_PADDING: Final = (b"", b"===", b"==", b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoseHeader:
    """The four header parameters this house reads; unverified."""

    algorithm: str
    kid: str | None = None
    typ: str | None = None
    """As sent; compare with `media_type`."""
    x5t: str | None = None

    @property
    def media_type(self) -> str | None:
        """`typ` in lower case without the optional prefix. Source: RFC 7515 §4.1.9."""
        return None if self.typ is None else self.typ.lower().removeprefix("application/")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactJws:
    """A token taken apart; nothing in it is verified."""

    header: JoseHeader
    signing_input: bytes
    payload: bytes
    signature: bytes


class NotStrictJson(ValueError):
    """The text is not one JSON object that every parser reads alike."""


def decode_base64url(part: bytes) -> bytes:
    """The octets of canonical base64url without padding.

    Raises: `ValueError` for any other spelling. Source: RFC 7515 §2, RFC 4648 §3.5.
    """
    standard = part.translate(_FROM_URL) + _PADDING[len(part) & 3]
    octets = binascii.a2b_base64(standard)
    # INVARIANT: one text per octets. The decoder skips junk and spare bits; encoding again brings them to light.
    if binascii.b2a_base64(octets, newline=False) != standard or b"=" in part or b"+" in part or b"/" in part:
        raise ValueError("not canonical base64url")
    return octets


def read_object(text: bytes) -> dict[str, Any]:
    """One JSON object with unique member names at every level.

    Raises: `NotStrictJson`. Source: RFC 8259 §4, §8.1; RFC 7515 §4; RFC 7519 §4.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotStrictJson("not valid json") from error
    if not isinstance(value, dict):
        raise NotStrictJson("not a json object")
    try:
        if orjson.dumps(value) == text:
            return value
        return json.loads(text.decode(), object_pairs_hook=_unique)  # type: ignore[no-any-return]
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise NotStrictJson("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("a member is repeated")
    return members


def read_compact(token: bytes) -> CompactJws:
    """A JWS in compact serialisation taken apart.

    Raises: `Unauthenticated` (`authn.token-size`, `authn.token-malformed`). Source: RFC 7515 §7.1.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("authn.token-size", f"the token is larger than {MAX_TOKEN_BYTES} bytes")
    parts = token.split(b".", 3)
    if len(parts) != 3:
        raise _malformed("it is not three parts joined by dots")
    header, payload, signature = parts
    try:
        return CompactJws(
            header=_read_header(header),
            signing_input=token[: len(header) + 1 + len(payload)],
            payload=decode_base64url(payload),
            signature=decode_base64url(signature),
        )
    except NotStrictJson as error:
        raise _malformed(f"its header is {error}") from error
    except ValueError as error:
        raise _malformed("a part is not canonical base64url") from error


@lru_cache(maxsize=256)
def _read_header(part: bytes) -> JoseHeader:
    """One issuer's tokens share one header text per key, so each text is read once; refusals are not kept."""
    if len(part) > MAX_HEADER_BYTES:
        raise _malformed(f"its header is longer than {MAX_HEADER_BYTES} bytes")
    members = read_object(decode_base64url(part))
    # STRICTER: RFC 7515 §4 ignores unknown parameters; here `crit`, `b64`, `jku`, `jwk`, `x5u`, `x5c`, `zip` and all
    # others end the matter, for no parameter may choose a key or change what the signature covers.
    if not members.keys() <= _HEADER_MEMBERS:
        raise _malformed("its header has members other than `alg`, `kid`, `typ` and `x5t`")
    for name, value in members.items():
        if not isinstance(value, str):
            raise _malformed(f"the header member `{name}` is not a string")
    if "alg" not in members:
        raise _malformed("its header names no algorithm")
    kid = members.get("kid")
    if kid is not None and (not kid.isprintable() or len(kid) > MAX_KID_CHARACTERS):
        raise _malformed("its key id is not plain text of bounded length")
    return JoseHeader(algorithm=members["alg"], kid=kid, typ=members.get("typ"), x5t=members.get("x5t"))


def _malformed(detail: str) -> Unauthenticated:
    return Unauthenticated("authn.token-malformed", "the token is not a well-formed JWT", detail=detail)
