"""Header fields: what each name means to a proxy, decided once per spelling.

A field is passed on, dropped, or looked at. Dropped are the hop-by-hop fields (RFC 9110 §7.6.1), every field that
tells an upstream who or where the caller is, and the look-alikes of those: servers that fold `_` and `.` to `-`
(CGI, WSGI, many frameworks) would read them as the real ones (S04).
"""

from __future__ import annotations

from typing import Final

# What to do with a field of the request. Plain integers: an Enum costs more to compare than the rest of the lookup.
PASS: Final = 0
DROP: Final = 1
AGENT: Final = 2
"""`User-Agent`: passed on and a condition key."""
REFERER: Final = 3
"""Passed on and a condition key."""
HOST: Final = 4
LENGTH: Final = 5
CODING: Final = 6
CONNECTION: Final = 7
AUTHORIZATION: Final = 8
EXPECT: Final = 9
SIGNATURE: Final = 10
"""`X-Amz-Date` and its kin belong to the caller's signature, which ends here."""

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
"""Source: RFC 9110 §7.6.1, RFC 9113 §3.2.1."""

ASSERTED: Final = frozenset(
    (
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-url",
        b"x-original-host",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-host",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"client-cert",
        b"client-cert-chain",
        b"x-client-cert",
        b"x-ssl-client-cert",
        b"ssl-client-cert",
        b"remote-user",
        b"x-remote-user",
        b"x-remote-group",
        b"x-user",
        b"x-apigw-api-id",
    )
)
"""Fields by which a caller could claim an address, an identity or another target; facts replace them (S03)."""

ASSERTED_PREFIXES: Final = (
    b"x-forwarded-",
    b"x-ztproxy-",
    b"x-amzn-oidc-",
    b"x-amzn-mtls-",
    b"x-amzn-ava-",
    b"x-auth-request-",
)

PROTECTED_HOPS: Final = frozenset(
    (b"host", b"content-length", b"authorization", b"expect", b"date", b"cookie", b"x-amz-date")
)
"""Fields that a `Connection` option may not name: dropping them would change what was judged (S05)."""

_LOOKED_AT: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"authorization": AUTHORIZATION,
    b"expect": EXPECT,
    b"user-agent": AGENT,
    b"referer": REFERER,
    b"x-amz-security-token": SIGNATURE,
    b"x-amz-date": SIGNATURE,
    b"x-amz-content-sha256": SIGNATURE,
}
_MOST_SPELLINGS: Final = 4096

request_kinds: Final[dict[bytes, int]] = {}
"""What `request_kind` has answered, by spelling."""
_answer_drops: dict[bytes, bool] = {}


def fold(name: bytes) -> bytes:
    """The spelling under which lenient servers would file this name: lower case, `_` and `.` as `-`."""
    return name.lower().replace(b"_", b"-").replace(b".", b"-")


def is_asserted(name: bytes) -> bool:
    """Whether a name, in any spelling, speaks of the caller's identity, address or target."""
    folded = fold(name)
    return folded in ASSERTED or folded.startswith(ASSERTED_PREFIXES)


def _kind(name: bytes) -> int:
    lower = name.lower()
    looked_at = _LOOKED_AT.get(lower)
    if looked_at is not None:
        return looked_at
    folded = fold(name)
    # STRICTER: a look-alike of a field that steers routing, framing or identity never reaches the upstream.
    if lower in HOP_BY_HOP or is_asserted(name) or (folded != lower and (folded in _LOOKED_AT or folded in HOP_BY_HOP)):
        return DROP
    return PASS


def request_kind(name: bytes) -> int:
    """What to do with a request field of this name, as it was spelled."""
    kind = request_kinds.get(name)
    if kind is None:
        kind = _kind(name)
        if len(request_kinds) < _MOST_SPELLINGS:
            request_kinds[name] = kind
    return kind


def dropped_from_answer(name: bytes) -> bool:
    """Whether a response field of this name stays behind: hop-by-hop, or one that we write ourselves."""
    dropped = _answer_drops.get(name)
    if dropped is None:
        lower = name.lower()
        dropped = lower in HOP_BY_HOP or lower == b"content-length" or lower.startswith(b"x-ztproxy-")
        if len(_answer_drops) < _MOST_SPELLINGS:
            _answer_drops[name] = dropped
    return dropped
