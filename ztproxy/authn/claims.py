"""Signed claims -> `Identity`: what a token's bearer is called in policies.

Every claim is accounted for. The subject is the claim the issuer's mapping names; `email` counts only when the issuer
says `email_verified: true` (a boolean) and it is one plain address. Groups and tags follow `subject.is_identity_text`;
a group claim of any other shape refuses the token rather than losing a group. All remaining claims become
`ztproxy:claim/<name>`: strings, numbers and booleans as text, lists of these multivalued; objects, nulls and lists that
hold either are left out, and names that differ only in case refuse the token, for condition keys know no case.

`aws:multifactorauthpresent` is `true` when `amr` (RFC 8176) holds one of `MULTI_FACTOR`, otherwise `false`, also
without `amr`. `aws:multifactorauthage` depends on the moment of the request, not on the token, and is not filled
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from ztproxy.authn.jwt import SignedClaims, numeric_date
from ztproxy.authn.subject import is_email, is_identity_text
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity

MULTI_FACTOR: Final = frozenset({"mfa", "otp", "hwk", "swk", "fido", "sc"})
"""`amr` values that stand for a second or a phishing-resistant factor. Source: RFC 8176 §2; `fido` is in wide use."""
MAX_CLAIM_NAME_CHARACTERS: Final = 128

_KNOWN: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "amr", "cnf"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMapping:
    """Which claims an issuer uses for what."""

    subject: str = "sub"
    groups: str | None = "groups"
    """A claim holding a list of strings or one string."""
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """`aws:PrincipalTag` key -> claim."""
    email_domains: frozenset[str] | None = None
    """Lower case; when set, only verified addresses of these domains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """How one issuer appears in policies; made once at load."""

    name: str
    """What the configuration calls the issuer."""
    issuer: str
    provider: str
    """Host and path of the issuer, as AWS names an OIDC provider."""
    provider_arn: str
    account: str
    principals: tuple[str, ...]
    aud_key: str
    sub_key: str
    amr_key: str

    @classmethod
    def of(cls, *, name: str, issuer: str, partition: str, account: str) -> Federation:
        """The names of an issuer.

        Source: IAM user guide, "AWS JSON policy elements: Principal", federated web identity.
        """
        provider = issuer.removeprefix("https://").removeprefix("http://")
        arn = f"arn:{partition}:iam::{account}:oidc-provider/{provider}"
        return cls(
            name=name,
            issuer=issuer,
            provider=provider,
            provider_arn=arn,
            account=account,
            principals=(f"Federated:{issuer}", f"Federated:{arn}"),
            aud_key=f"{provider.lower()}:aud",
            sub_key=f"{provider.lower()}:sub",
            amr_key=f"{provider.lower()}:amr",
        )


def token_identity(
    claims: SignedClaims, mapping: ClaimMapping, federation: Federation, *, leeway_s: int, now: datetime
) -> Identity:
    """Who a verified token stands for; it expires when the token would no longer be accepted.

    Raises: `Unauthenticated` (`authn.token-claims`).
    """
    subject = _subject(claims, mapping)
    groups = _groups(claims, mapping)
    facts = _other_claims(claims, mapping.groups)
    _add_provider_facts(facts, claims, federation)
    facts["aws:federatedprovider"] = federation.provider_arn
    facts["aws:userid"] = f"{federation.account}:{subject}"
    if groups:
        facts["ztproxy:groups"] = groups
    issued_at = now
    if "iat" in claims:
        issued_at = datetime.fromtimestamp(numeric_date(claims, "iat"), UTC)
        facts["aws:tokenissuetime"] = issued_at.isoformat()[:19] + "Z"
    for tag, claim in mapping.tags.items():
        value = claims.get(claim)
        if value is not None:
            if not is_identity_text(value):
                raise _bad_claim(claim, "is not a plain string, as a principal tag must be")
            facts[f"aws:principaltag/{tag.lower()}"] = value
    return Identity(
        subject=subject,
        kind="jwt",
        issuer=federation.name,
        method="jwt",
        authenticated_at=issued_at,
        expires_at=datetime.fromtimestamp(numeric_date(claims, "exp") + leeway_s, UTC),
        groups=groups,
        principals=federation.principals,
        facts=MappingProxyType(facts),
    )


def _subject(claims: SignedClaims, mapping: ClaimMapping) -> str:
    subject = claims.get(mapping.subject)
    if not isinstance(subject, str) or not is_identity_text(subject):
        raise _bad_claim(mapping.subject, "is missing or not a plain string")
    if mapping.subject == "email" or mapping.email_domains is not None:
        email = claims.get("email")
        # INVARIANT: only the boolean counts; `"false"` is a true value to a careless reader.
        if claims.get("email_verified") is not True:
            raise _bad_claim("email", "is not verified by the issuer")
        if not isinstance(email, str) or not is_email(email):
            raise _bad_claim("email", "is not one plain address")
        if mapping.email_domains is not None and email.rpartition("@")[2].lower() not in mapping.email_domains:
            raise _bad_claim("email", "is of another domain")
    return subject


def _groups(claims: SignedClaims, mapping: ClaimMapping) -> tuple[str, ...]:
    value = None if mapping.groups is None else claims.get(mapping.groups)
    if value is None:
        return ()
    groups = tuple(value) if isinstance(value, list) else (value,)
    if not all(map(is_identity_text, groups)):
        raise _bad_claim(str(mapping.groups), "is not made of plain strings")
    return groups


def _add_provider_facts(facts: dict[str, str | tuple[str, ...]], claims: SignedClaims, federation: Federation) -> None:
    audience = claims["aud"]
    if isinstance(audience, list):
        audience = tuple(audience) if len(audience) > 1 else audience[0]
    facts[federation.aud_key] = audience
    if "sub" in claims:
        facts[federation.sub_key] = claims["sub"]
    facts["aws:multifactorauthpresent"] = "false"
    methods = claims.get("amr")
    if isinstance(methods, list) and methods and all(isinstance(method, str) for method in methods):
        facts[federation.amr_key] = tuple(methods)
        if not MULTI_FACTOR.isdisjoint(methods):
            facts["aws:multifactorauthpresent"] = "true"


def _other_claims(claims: SignedClaims, groups: str | None) -> dict[str, str | tuple[str, ...]]:
    facts: dict[str, str | tuple[str, ...]] = {}
    for name, value in claims.items():
        if name in _KNOWN or name == groups:
            continue
        key = _fact_key(name)
        text = value if type(value) is str else _text(value)
        if key is None or text is None:
            continue
        if key in facts:
            raise _bad_claim(name, "stands there twice in different case")
        facts[key] = text
    return facts


@lru_cache(maxsize=1024)
def _fact_key(name: str) -> str | None:
    return f"ztproxy:claim/{name.lower()}" if len(name) <= MAX_CLAIM_NAME_CHARACTERS and name.isprintable() else None


def _text(value: Any) -> str | tuple[str, ...] | None:
    if isinstance(value, list):
        texts = tuple(text for one in value if isinstance(text := _scalar(one), str))
        return texts if value and len(texts) == len(value) else None
    return _scalar(value)


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def _bad_claim(name: str, what: str) -> Unauthenticated:
    return Unauthenticated("authn.token-claims", f"the claim `{name[:MAX_CLAIM_NAME_CHARACTERS]}` {what}")
