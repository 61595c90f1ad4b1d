"""The nouns every room shares: frozen facts, made once at the edge and never changed after.

Order of birth in one request: `NetworkContext` (per connection), `Evidence` and `Ask` (the protocol
shell), `Identity` (`authn/`), `AccessRequest` (the gate), `Decision` (`authz/`), `Grant` (the gate
alone; see `gate.py`). Collections are tuples, frozensets and read-only mappings. What is made for every request is a
`NamedTuple`, a quarter of a frozen dataclass's price (`docs/adr/0007-per-request-nouns.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

Facts = Mapping[str, str | tuple[str, ...]]
"""Condition keys and their values. Keys are lower case (`aws:sourceip`); a tuple is a multivalued key."""

NO_FACTS: Final[Facts] = MappingProxyType({})


class Secret:
    """Bytes that never show themselves: not in `repr`, `str`, pickle or JSON.

    `.reveal()` is the one way in, so every use can be found by searching for it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret bytes themselves."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkContext:
    """Where a connection came from, from socket, PROXY header and TLS facts alone; one per connection."""

    listener: str
    peer: str
    """Client address in canonical text; IPv4-mapped IPv6 is already IPv4 (S33)."""
    peer_port: int
    balancer: str | None = None
    """Address of the load balancer that sent the PROXY header, if one did."""
    vpce_id: str | None = None
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None
    facts: Facts = field(default_factory=lambda: NO_FACTS)
    """`aws:SourceIp` and its kin, as `authz/context.py` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedCertificate:
    """A client certificate whose chain TLS has verified, and the authority that vouched for it."""

    der: bytes
    authority: str
    chain_expires_at: datetime
    """The earliest `notAfter` in the verified chain, leaf included."""
    trust_domain: str | None = None
    """The one SPIFFE trust domain of that authority; None: its certificates carry no SPIFFE ID of worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What a SigV4 signature is verified over: the request as its bytes arrived."""

    method: str
    raw_target: bytes
    raw_headers: tuple[tuple[bytes, bytes], ...]
    """Names and values as received, in order."""
    body_sha256: str | None = None
    """Hex hash of the whole body where the shell had to read it first; None: only the declared hash is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the client presented, not yet judged."""

    certificate: PresentedCertificate | None = None
    bearer: Secret | None = None
    signed: SignedRequest | None = None


class Ask(NamedTuple):
    """A wish in IAM terms, before its route is known."""

    action: str
    host: str
    """Lower case, without port or trailing dot."""
    path: str
    """The canonical path: the one value routed, judged, logged and forwarded (S01)."""
    method: str
    resource: str
    """What follows the route's own ARN: `GET/orders/42`."""
    facts: Facts = NO_FACTS
    """Request-level condition keys: `aws:useragent`, `aws:referer`, `ztproxy:protocol`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is asking, verified."""

    subject: str
    kind: str
    """`jwt`, `certificate`, `sigv4` or `anonymous`."""
    issuer: str
    method: str
    """How it was proven, for the record: `jwt+certificate`."""
    authenticated_at: datetime
    expires_at: datetime
    groups: tuple[str, ...] = ()
    account: str | None = None
    """The caller's own AWS account; None counts as the proxy's."""
    principals: tuple[str, ...] = ()
    """What a `Principal` element may call it, each `<type>:<value>`: `Federated:https://login.example.com`,
    `AWS:arn:aws:iam::111122223333:user/ci`, `AWS:111122223333` (delegation to the account)."""
    facts: Facts = field(default_factory=lambda: NO_FACTS)
    upstream_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Identity headers for the upstream, made once with the identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationRule:
    """Which authenticators a route demands, by name: `certificate`, `sigv4` or an issuer's."""

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    anonymous: bool = False


class DenyDetail(Enum):
    """How much a refused caller learns."""

    ID = "id"
    REASON = "reason"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLimits:
    """Bounds of one route; sizes in bytes, times in seconds."""

    body_bytes: int = 10 * 1024 * 1024
    connect_s: float = 3.0
    response_s: float = 60.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One configured way to an upstream, and what it asks of callers."""

    name: str
    host: str
    """Lower case exact host, `*.example.com` for any name below it, or `*` for any."""
    path: str
    """A pattern: `*` is one segment, a final `**` the rest."""
    arn: str
    """`arn:aws:execute-api:<region>:<account>:<api-id>/<stage>`; an ask's resource is appended after `/`."""
    account: str
    upstream: str
    authenticate: AuthenticationRule
    audit_required: bool = False
    deny_detail: DenyDetail | None = None
    """None: `reason` for the authenticated, `id` for others."""
    limits: RouteLimits = field(default_factory=RouteLimits)


class AccessRequest(NamedTuple):
    """Everything a policy may look at, built once; the same object is judged, recorded and forwarded."""

    id: str
    at: datetime
    network: NetworkContext
    identity: Identity
    route: Route
    ask: Ask
    resource: str
    """The full ARN asked for."""


class Effect(Enum):
    """How a decision came out, in IAM's words."""

    ALLOW = "allow"
    EXPLICIT_DENY = "explicit_deny"
    IMPLICIT_DENY = "implicit_deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRef:
    """Where a statement stands, for people."""

    source: str
    line: int
    sid: str | None
    policy_kind: str
    """`resource` or `identity`."""

    def __str__(self) -> str:
        return f"{self.sid or 'statement'} ({self.source}:{self.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A statement that came close: the first element that failed and what was seen there."""

    statement: StatementRef
    element: str
    """`Principal`, `Action`, `Resource` or `Condition`."""
    key: str | None = None
    operator: str | None = None
    expected: tuple[str, ...] = ()
    seen: tuple[str, ...] | None = None
    """None: the request had no such key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer of `authz/`, with its reasons."""

    effect: Effect
    deciding: tuple[StatementRef, ...] = ()
    misses: tuple[NearMiss, ...] = ()
    errors: tuple[str, ...] = ()
    digest: str = ""
    """Of the policy set that answered."""
    ttl_s: float | None = None
    """None: holds until the policy set, the identity or the route's limit ends it."""

    @property
    def allowed(self) -> bool:
        """Whether access is given; the only way to ask."""
        return self.effect is Effect.ALLOW

    def __bool__(self) -> NoReturn:
        raise TypeError("ask a decision for `.allowed`, never for its truth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Upstream credentials for one grant."""

    expires_at: datetime
    headers: tuple[tuple[bytes, Secret], ...] = ()


class Meter:
    """What a grant has moved so far; the one mutable object of a request."""

    __slots__ = ("bytes_in", "bytes_out", "closed", "status")

    def __init__(self) -> None:
        self.bytes_in = 0
        """Body bytes from the client."""
        self.bytes_out = 0
        """Body bytes to the client."""
        self.status = 0
        self.closed = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One thing that happened, ready to be sealed; `facts` holds only JSON values, keys ASCII."""

    event: str
    """`access.decided`, `access.ended`, `connection.failed`, `process.started`, ..."""
    facts: Mapping[str, Any]
