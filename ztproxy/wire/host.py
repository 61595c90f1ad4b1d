"""The authority of a request: the Host field or the one in an absolute-form target, in one canonical spelling.

What comes out is what routes are keyed by, so that case, a trailing dot, a port or another spelling of an IPv6 address
never leads past a route (S16). Names are compared as ASCII: an internationalised one comes as its A-labels (RFC 5890).

Source: RFC 9110 §7.2, RFC 3986 §3.2.2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from ztproxy.errors import ProtocolError

LONGEST_NAME: Final = 253
"""Of a DNS name, without its trailing dot (RFC 1035 §2.3.4)."""
_REMEMBERED: Final = 1024

_AUTHORITY: Final = re.compile(
    # STRICTER: RFC 3986's reg-name without escapes (no DNS name has them), and without `*` (a pattern to us),
    # `,` `;` (lists to others) and `'` `(` `)` (quotes and comments to others).
    rb"(?:(?P<name>[A-Za-z0-9_~!$&+=-]{1,63}(?:\.[A-Za-z0-9_~!$&+=-]{1,63})*+)\.?|\[(?P<literal>[0-9A-Fa-f:.]{2,45})\])"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)


class Authority(NamedTuple):
    """Who is asked for."""

    host: str
    """Lower case, without trailing dot; an IPv6 address in brackets."""
    port: int | None
    """None: none was named, or an empty one (RFC 3986 §3.2.3)."""


def _bad(why: str) -> ProtocolError:
    return ProtocolError("protocol.host", "the host asked for is missing or malformed", detail=why)


@lru_cache(maxsize=_REMEMBERED)
def parse_authority(raw: bytes) -> Authority:
    """The host and port of a Host field value or of an absolute-form target; userinfo is refused.

    Raises: `ProtocolError` with code `protocol.host`.
    """
    match = _AUTHORITY.fullmatch(raw)
    if match is None:
        raise _bad("the host is not `name`, `name:port`, `[address]` or `[address]:port`")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise _bad(f"port {port} is above 65535")
    if match["name"] is None:
        return Authority(_literal(match["literal"].decode("ascii")), port)
    if len(match["name"]) > LONGEST_NAME:
        raise _bad(f"the host is longer than {LONGEST_NAME} bytes")
    return Authority(match["name"].decode("ascii").lower(), port)


@lru_cache(maxsize=_REMEMBERED)
def canonical_host(raw: bytes) -> str:
    """The host of a Host field value in the one spelling routes know it by; its port is checked and dropped.

    Raises: `ProtocolError` with code `protocol.host`.
    """
    return parse_authority(raw).host


def _literal(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise _bad("what stands in brackets is no IPv6 address") from None
    mapped = address.ipv4_mapped
    return f"[{address.compressed}]" if mapped is None else str(mapped)
