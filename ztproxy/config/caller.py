"""Who may call: issuers, access keys, the policies that go with an identity, and what a route demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from ztproxy.config.base import Model
from ztproxy.config.fields import (
    DISTINCT,
    NOT_EMPTY,
    AccessKeyId,
    ExactText,
    FilePath,
    Hidden,
    IssuerUrl,
    KeySet,
    Name,
    PemFile,
    PrincipalArn,
    Region,
    Service,
    SpiffeId,
    Text,
    UserName,
)
from ztproxy.config.refusal import refused

RESERVED_NAMES: Final = frozenset({"certificate", "sigv4", "jwt", "none", "anonymous"})
"""What `authenticate` already means; no issuer may be called so."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise refused("is a word of `authenticate` itself; choose another name")
    return name


class Claims(Model):
    """Which claims of a token mean what."""

    subject: ExactText = "sub"
    """The claim that names the caller."""
    groups: ExactText = "groups"
    """The claim with the list of groups."""
    tags: Mapping[ExactText, ExactText] = {}
    """`aws:PrincipalTag/<key>` from the claim of this name."""


class Issuer(Model):
    """An OIDC issuer whose tokens prove an identity."""

    name: Annotated[Name, AfterValidator(_not_reserved)]
    """What `authenticate` and `grants` call it."""
    issuer: IssuerUrl
    """Its URL, exactly as in the `iss` claim; https unless on this machine."""
    audiences: Annotated[tuple[ExactText, ...], NOT_EMPTY, DISTINCT]
    """Accepted `aud` values; a token must carry one."""
    algorithms: Annotated[tuple[Algorithm, ...], NOT_EMPTY, DISTINCT] = ("RS256", "ES256")
    """Accepted signature algorithms."""
    leeway_s: Annotated[int, Field(ge=0, le=60)] = 60
    """How far clocks may differ."""
    claims: Claims = Claims()
    """Which claims are read."""
    jwks: KeySet | None = None
    """Its keys: `file:<path>` or a URL; absent: discovered at the issuer."""
    ca: PemFile | None = None
    """PEM file of a private CA for fetching from it; absent: the system's."""


class AccessKey(Model):
    """A SigV4 access key held in this configuration, and the IAM user it stands for."""

    id: AccessKeyId
    """Access key id."""
    secret: Hidden
    """Reference to the secret key: `env:<name>` or `file:<path>`."""
    user: UserName
    """The caller is `arn:<partition>:iam::<account>:user/<user>`."""
    groups: Annotated[tuple[ExactText, ...], DISTINCT] = ()
    """Its groups."""
    tags: Mapping[ExactText, Text] = {}
    """Its tags: `aws:PrincipalTag/<key>`."""


class SigV4(Model):
    """What a SigV4 signature must say."""

    regions: Annotated[tuple[Region, ...], NOT_EMPTY, DISTINCT] | None = None
    """Accepted regions; absent: `arn.region` alone."""
    services: Annotated[tuple[Service, ...], NOT_EMPTY, DISTINCT] = ("execute-api",)
    """Accepted service names."""
    skew_s: Annotated[int, Field(gt=0, le=900)] = 300
    """How far the time of signing may be from ours."""


class Match(Model):
    """Whom a grant is for; every key given must hold, compared exactly."""

    issuer: Name | None = None
    """Name of the issuer of the caller's token."""
    group: ExactText | None = None
    """A group the caller is in."""
    subject: ExactText | None = None
    """The caller's subject."""
    spiffe: SpiffeId | None = None
    """SPIFFE ID of the caller's certificate."""
    principal: PrincipalArn | None = None
    """ARN of the caller."""


class IdentityGrant(Model):
    """Identity policies for callers that match."""

    match: Match
    """Whom they are for; at least one key."""
    policies: Annotated[tuple[FilePath, ...], NOT_EMPTY, DISTINCT]
    """Paths of the policy documents."""


class Authenticate(Model):
    """Which authenticators a route demands: `certificate`, `sigv4` or issuers by name."""

    all_of: Annotated[tuple[Name, ...], NOT_EMPTY, DISTINCT] = ()
    """Each of these must succeed."""
    any_of: Annotated[tuple[Name, ...], NOT_EMPTY, DISTINCT] = ()
    """One of these must succeed."""


def _none(value: Any) -> Literal["none"]:
    if value == "none":
        return "none"
    raise refused("must be `none`, or a mapping with `all_of` or `any_of`")


def _authenticate_form(value: Any) -> str:
    return "=rule" if isinstance(value, dict | Authenticate) else "=none"


Authentication = Annotated[
    Annotated[Literal["none"], PlainValidator(_none), WithJsonSchema({"const": "none", "type": "string"}), Tag("=none")]
    | Annotated[Authenticate, Tag("=rule")],
    Discriminator(_authenticate_form),
]
