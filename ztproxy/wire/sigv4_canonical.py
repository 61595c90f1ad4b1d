"""The canonical request of Signature Version 4: one byte string that client and server build alike.

```
METHOD \\n path \\n query \\n name:value \\n ... \\n \\n name;name \\n payload-hash
```

Everything is computed from the bytes as received, before any rewrite. How a path becomes canonical is a `Form`;
the service decides which one is right. Whatever two targets share a canonical form share a signature, so the target
that is routed, judged and forwarded is fixed elsewhere, by the door's own target rule, never by these functions.

Source: IAM User Guide, "Create a signed AWS API request"; S3 API Reference, "Authenticating Requests".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from ztproxy.errors import Unauthenticated

RawHeaders = tuple[tuple[bytes, bytes], ...]
"""Field names and values as received, in order."""


class Form(Enum):
    """A rule for the canonical path."""

    NORMALIZED = "normalized"
    """Dot and empty segments removed, then encoded once more as sent. Every service but S3."""
    UNNORMALIZED = "unnormalized"
    """As `NORMALIZED`, with the segments kept: some signers skip that step."""
    OBJECT_KEY = "object-key"
    """Path encoded once, `//` and `..` being legal in object keys. S3."""


# Segments that need no change: not empty, not starting with a dot, unreserved characters only.
_PLAIN_PATH: Final = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
_PLAIN_QUERY: Final = re.compile(rb"[A-Za-z0-9._~-]+=[A-Za-z0-9._~-]*(?:&[A-Za-z0-9._~-]+=[A-Za-z0-9._~-]*)*")
_RESERVED: Final = re.compile(rb"[^A-Za-z0-9._~-]")
_RESERVED_IN_PATH: Final = re.compile(rb"[^A-Za-z0-9._~/-]")
_ESCAPE: Final = {bytes((byte,)): b"%%%02X" % byte for byte in range(256)}
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?]+)(/[^?]*)?(?:\?(.*))?", re.DOTALL)
_SENT_VISIBLY: Final = re.compile(rb"/(?:[!-$&-~]|%(?!25[0-9A-Fa-f]{2}))*")
_VISIBLE: Final = re.compile(rb"[!-~]*")


def split_target(raw_target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Authority (absolute form only), path and query of a request target, all as received.

    Raises: `Unauthenticated` when an escape is malformed or the target has no path to sign.
    Source: RFC 9112 §3.2; common error `MalformedQueryString`.
    """
    authority = None
    if raw_target.startswith(b"/"):
        path, _, query = raw_target.partition(b"?")
    elif (absolute := _ABSOLUTE.fullmatch(raw_target)) is not None:
        authority, path, query = absolute[1], absolute[2] or b"/", absolute[3] or b""
    else:
        raise Unauthenticated("authn.sigv4-query", "the request target has no path that could be signed")
    if b"%" in raw_target and _BAD_ESCAPE.search(raw_target) is not None:
        raise Unauthenticated("authn.sigv4-query", "the request target contains a malformed percent-escape")
    return authority, path, query


def canonical_path(path: bytes, form: Form) -> bytes:
    """The path of a target under `form`; `path` starts with `/` and its escapes are well formed."""
    if _PLAIN_PATH.fullmatch(path) is not None:
        return path
    if form is Form.OBJECT_KEY:
        path = unquote_to_bytes(path)
    elif form is Form.NORMALIZED:
        path = _without_dot_segments(path)
    return _RESERVED_IN_PATH.sub(_escape, path)


def _without_dot_segments(path: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    last = b"/" if kept and path.endswith(b"/") else b""
    return b"/" + b"/".join(kept) + last


def canonical_query(query: bytes) -> bytes:
    """The query sorted by encoded name, then value, every pair decoded and encoded afresh; `+` is a plus."""
    if not query:
        return query
    if _PLAIN_QUERY.fullmatch(query) is None:
        pairs = [
            tuple(_RESERVED.sub(_escape, unquote_to_bytes(side)) for side in pair.partition(b"=")[::2])
            for pair in query.split(b"&")
        ]
        return b"&".join([b"%b=%b" % pair for pair in sorted(pairs)])
    if b"&" not in query:
        return query
    # Sorting the text itself would be wrong: `a-=1` precedes `a=1`, but the name `a` precedes the name `a-`.
    return b"&".join(sorted(query.replace(b"=", b"\0").split(b"&"))).replace(b"\0", b"=")


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPE[match[0]]


def may_be_signed_as_sent(path: bytes, query: bytes) -> bool:
    """Whether a signature may be taken over path and query exactly as they stand in the request line.

    INVARIANT: a signature made for one legal target never opens another resource this way. The other
    forms send `/a%20b` to the canonical path `/a%2520b`; taken as sent, that text would be a request for a
    different resource, so an escaped percent sign before two hex digits rules this out (the door refuses it too).
    """
    return _SENT_VISIBLY.fullmatch(path) is not None and _VISIBLE.fullmatch(query) is not None


def read_fields(raw_headers: RawHeaders) -> dict[bytes, bytes]:
    """Fields by lower-case name; values of one name are trimmed and joined by commas in order of arrival.

    Raises: `Unauthenticated` when `Authorization` comes more than once.
    """
    fields = {name.lower(): value for name, value in raw_headers}
    return fields if len(fields) == len(raw_headers) else _joined(raw_headers)


def _joined(raw_headers: RawHeaders) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for raw_name, value in raw_headers:
        name, collapsed = raw_name.lower(), b" ".join(value.split())
        if name not in fields:
            fields[name] = collapsed
        elif name == b"authorization":
            # STRICTER: AWS takes the last one; a proxy in between may take the first.
            raise Unauthenticated("authn.sigv4-incomplete", "Authorization header was sent more than once.")
        else:
            fields[name] += b"," + collapsed
    return fields


def canonical_headers(fields: Mapping[bytes, bytes], labels: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One `name:value` line for each `(name, name + b":")`, blanks trimmed and inner runs (folds too) made one blank.

    Raises: `KeyError` with the first name that the request does not carry.
    """
    return b"\n".join([label + b" ".join(fields[name].split()) for name, label in labels]) + b"\n"


def canonical_request(
    *, method: str, path: bytes, query: bytes, headers: bytes, signed_headers: bytes, payload_hash: bytes
) -> bytes:
    """The text that is hashed and signed; every part but the method is canonical already."""
    return b"\n".join((method.encode(), path, query, headers, signed_headers, payload_hash))
