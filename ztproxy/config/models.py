"""What an operator may write, as frozen models; `docs/config.md` says it in prose.

Every key has one home here, its unit in its name and a default that is safe. `LATER` names keys that the
design promises but this version does not act on: they are refused, because a restriction that is accepted and
not enforced is worse than none (S14). Lists never mean "all" when they are empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, PrivateAttr, WithJsonSchema

from ztproxy.config.base import Model
from ztproxy.config.caller import AccessKey, Authentication, IdentityGrant, Issuer, SigV4
from ztproxy.config.document import Document, Place
from ztproxy.config.fields import (
    NOT_EMPTY,
    Account,
    ApiId,
    FilePath,
    HostPattern,
    Name,
    Partition,
    PemFile,
    Region,
    RoutePath,
    ServerName,
    Stage,
    UpstreamUrl,
    VpceId,
    VpcId,
)
from ztproxy.config.listener import Listener
from ztproxy.config.refusal import refused
from ztproxy.errors import Problem


def _version(value: Any) -> Any:
    # A literal would take `true` for 1, as Python does.
    if value is not True and value == 1:
        return value
    raise refused("must be `1`, the only version of this format")


class Arn(Model):
    """What the ARNs of our own resources are made of."""

    partition: Partition = "aws"
    """AWS partition."""
    region: Region = "eu-west-1"
    """Region in resource ARNs, and the one SigV4 signatures must name unless `sigv4.regions` says otherwise."""
    account: Account = "000000000000"
    """Account in resource ARNs, and of every caller that brings none; 12 digits, in quotes."""


class VpcEndpoint(Model):
    """What is known of a VPC endpoint."""

    LATER: ClassVar[frozenset[str]] = frozenset({"policy"})
    vpc: VpcId
    """The VPC it stands in: `aws:SourceVpc`."""
    account: Account
    """The account that owns it: `aws:SourceVpcAccount`; in quotes."""


class NetworkMap(Model):
    """Facts about networks that no packet carries."""

    vpc_endpoints: Mapping[VpceId, VpcEndpoint] = {}
    """By VPC endpoint id."""


class UpstreamTls(Model):
    """The client side of TLS to an upstream."""

    ca: PemFile | None = None
    """PEM file of the CA that vouches for the upstream; absent: the system's."""
    certificate: PemFile | None = None
    """PEM file of our client certificate."""
    key: PemFile | None = None
    """PEM file of its private key."""
    server_name: ServerName | None = None
    """Name to verify and to send as SNI; absent: the host of the URL."""


class Pool(Model):
    """Connections kept to an upstream."""

    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most connections of one route."""


class Upstream(Model):
    """Where a route leads."""

    LATER: ClassVar[frozenset[str]] = frozenset({"urls", "health", "auth", "host"})
    url: UpstreamUrl
    """`http://host:port` or `https://host:port`, without a path."""
    tls: UpstreamTls | None = None
    """TLS to it; only with https."""
    pool: Pool = Pool()
    """Connection reuse."""

    @property
    def secure(self) -> bool:
        """Whether the URL is https."""
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        """Host of the URL, lower case, IPv6 without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the URL, or the scheme's own."""
        return urlsplit(self.url).port or (443 if self.secure else 80)


class RouteTimeouts(Model):
    """How long a route waits."""

    connect_s: Annotated[float, Field(gt=0, le=60)] = 3.0
    """For a connection to the upstream, TLS included."""
    response_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """For the upstream's next bytes."""
    total_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """For the whole exchange."""


class Limits(Model):
    """Bounds of a route."""

    LATER: ClassVar[frozenset[str]] = frozenset({"rate_per_principal", "concurrency"})
    body_bytes: Annotated[int, Field(ge=0, le=2**40)] = 10 * 1024 * 1024
    """Largest request body."""


class Route(Model):
    """One way to an upstream, and what it asks of callers."""

    LATER: ClassVar[frozenset[str]] = frozenset({"strip_prefix", "add_prefix", "cors"})
    name: Name
    """Its name in records, and the API id of its ARN."""
    stage: Stage = "prod"
    """Stage in its ARN."""
    api_id: ApiId | None = None
    """API id in its ARN; absent: the name."""
    host: HostPattern
    """Host it answers for: exact, `*.` and a domain, or `*`."""
    path: RoutePath = "/**"
    """Path pattern: `*` is one segment, a final `**` the rest."""
    authenticate: Authentication | None = None
    """Who must sign in how; absent: any issuer, SigV4 or certificate there is. `none` lets anyone ask."""
    policy: FilePath | None = None
    """Path of its resource policy; may be absent only where grants exist."""
    upstream: Upstream
    """Where it leads."""
    audit: Literal["buffered", "required"] = "buffered"
    """`required`: nothing is forwarded before its record is on disk."""
    deny_detail: Literal["id", "reason", "full"] | None = None
    """What a refused caller learns; absent: `reason` for the authenticated, `id` for others."""
    timeouts: RouteTimeouts = RouteTimeouts()
    """Deadlines."""
    limits: Limits = Limits()
    """Bounds."""


def default_spool() -> Path:
    """`audit` in the state directory systemd gives, else in the XDG state folder."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given) / "audit"
    # Source: XDG Base Directory 0.8: a relative path there is invalid and ignored.
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "ztproxy" / "audit"


class Audit(Model):
    """Where records go."""

    LATER: ClassVar[frozenset[str]] = frozenset({"sign", "ship"})
    spool: FilePath = Field(default_factory=default_spool)
    """Directory of the sealed records; absent: `audit` under `$STATE_DIRECTORY` or the XDG state folder."""
    segment_bytes: Annotated[int, Field(ge=65_536, le=2**30)] = 64 * 1024 * 1024
    """Size at which a new segment file begins."""


class Config(Model):
    """A whole configuration that made sense; it still knows where each part of it was written."""

    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            "accounts",
            "workers",
            "aws_identities",
            "signing_keys",
            "login",
            "roles",
            "guardrails",
            "databases",
            "state",
            "admin",
        }
    )
    version: Annotated[Literal[1], PlainValidator(_version), WithJsonSchema({"const": 1})]
    """Version of this format: 1."""
    arn: Arn = Arn()
    """What our ARNs are made of."""
    listeners: Annotated[tuple[Listener, ...], NOT_EMPTY]
    """Where clients come in."""
    network: NetworkMap = NetworkMap()
    """Facts about networks."""
    issuers: tuple[Issuer, ...] = ()
    """OIDC issuers."""
    access_keys: tuple[AccessKey, ...] = ()
    """SigV4 keys."""
    sigv4: SigV4 = SigV4()
    """What signatures must say."""
    grants: tuple[IdentityGrant, ...] = ()
    """Identity policies."""
    routes: Annotated[tuple[Route, ...], NOT_EMPTY]
    """Ways to upstreams."""
    audit: Audit = Field(default_factory=Audit)
    """Records."""

    _document: Document = PrivateAttr(default=Document(file="<config>", data={}, values={}, keys={}))
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    def located(self, document: Document, warnings: tuple[Problem, ...] = ()) -> Config:
        """The same configuration, knowing where it was written and what was odd about it."""
        located = self.model_copy()
        located._document = document
        located._warnings = warnings
        return located

    @property
    def file(self) -> str:
        """The file it came from, as the operator named it."""
        return self._document.file

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is legal and still worth a look."""
        return self._warnings

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at `place`, for whoever finds one after loading: `("routes", 0, "policy")`."""
        return self._document.problem(place, message)

    @property
    def sigv4_regions(self) -> tuple[str, ...]:
        """Regions a signature may name."""
        return self.sigv4.regions or (self.arn.region,)
