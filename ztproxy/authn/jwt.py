"""A JWT checked against given keys and a given clock; order of trust as a list, each step only after the one before.

1. `jose.read_compact`: size, form, header.           token-size, token-malformed
2. `typ` is one this issuer's API takes (S12).        token-type
3. `alg` is on the issuer's allow-list.               token-algorithm
4. The header points at exactly one key, which is bound to that algorithm (S21).   token-key, token-algorithm
5. The signature is that key's: PyJWT's algorithm object says so.                  token-signature
6. The payload is one strict JSON object.             token-malformed
7. `iss`, `aud`, `exp`, `nbf`, `iat`, `cnf` are of the right kind and say what this issuer's rules want.
                                                      token-claims, -issuer, -audience, -expired, -early, -binding

Everything else ends in `Unauthenticated`; no other exception leaves `verify`.

INVARIANT: `SignedClaims` come out of `verify` alone. What `claimed_issuer` tells is unverified and only picks who
judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NewType

from ztproxy.authn.jose import CompactJws, NotStrictJson, decode_base64url, read_compact, read_object
from ztproxy.authn.keyset import KeySet
from ztproxy.authn.subject import is_identity_text
from ztproxy.errors import Unauthenticated

SignedClaims = NewType("SignedClaims", Mapping[str, Any])
"""The claims of a token that passed every step."""

TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""Media types taken unless an issuer says otherwise; in lower case, without `application/`."""
LATEST_TIME: Final = 99_999_999_999
"""The last second taken for a date (year 5138): the milliseconds of any date since 1973 lie beyond it."""
MAX_CLAIM_CHARACTERS: Final = 2048
"""Of each audience."""
MAX_AUDIENCES: Final = 100

read_token = lru_cache(maxsize=8)(read_compact)
"""`read_compact` with a short memory: several issuers are asked about one token before one of them judges it."""
_read_claims = lru_cache(maxsize=8)(read_object)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What one issuer's tokens must say."""

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    leeway_s: int = 60
    types: frozenset[str] = TOKEN_TYPES
    type_required: bool = False

    def __post_init__(self) -> None:
        # An empty restriction never means "all" (S14).
        if not self.issuer or not self.audiences or not self.algorithms or not self.types:
            raise ValueError("issuer, audiences, algorithms and types must each name something")
        if "" in self.audiences:
            raise ValueError("an audience must not be empty")


def verify(jws: CompactJws, rules: TokenRules, keys: KeySet, now: datetime) -> SignedClaims:
    """The claims of a token that is signed by the issuer, for us, and valid now.

    Raises: `Unauthenticated`. Source: RFC 7519 §7.2, RFC 8725.
    """
    _check_type(jws, rules)
    verify_signature(jws, keys, rules.algorithms)
    try:
        claims = _read_claims(jws.payload)
    except NotStrictJson as error:
        raise Unauthenticated(
            "authn.token-malformed", "the token is not a well-formed JWT", detail=f"its payload is {error}"
        ) from error
    _check_issuer(claims, rules)
    _check_audience(claims, rules)
    _check_times(claims, rules.leeway_s, now.timestamp())
    if "sub" in claims and not is_identity_text(claims["sub"]):
        raise _bad_claim("sub", "is not a plain string")
    return SignedClaims(MappingProxyType(claims))


def verify_signature(jws: CompactJws, keys: KeySet, algorithms: frozenset[str]) -> None:
    """Returns only if the one key the header points at made the signature, with an allowed algorithm.

    Raises: `Unauthenticated` (`authn.token-algorithm`, `authn.token-key`, `authn.token-signature`).
    """
    header = jws.header
    if header.algorithm not in algorithms:
        raise Unauthenticated("authn.token-algorithm", "the token's algorithm is not allowed for its issuer")
    key = keys.find(kid=header.kid, x5t=header.x5t, algorithm=header.algorithm)
    if key is None:
        raise Unauthenticated("authn.token-key", "the token names no usable key of its issuer", detail=_key_name(jws))
    verifier = key.verifiers.get(header.algorithm)
    if verifier is None:
        raise Unauthenticated(
            "authn.token-algorithm", "the token's algorithm does not belong to its key", detail=_key_name(jws)
        )
    try:
        genuine = verifier.verify(jws.signing_input, jws.signature)
    except Exception as error:  # whatever a library makes of a hostile signature, it is not a signature
        raise Unauthenticated("authn.token-signature", "the token's signature does not verify") from error
    if genuine is not True:
        raise Unauthenticated("authn.token-signature", "the token's signature does not verify", detail=_key_name(jws))


def claimed_issuer(token: bytes) -> str | None:
    """The `iss` a token claims, unverified; None when no token can be read."""
    try:
        claimed = _read_claims(read_token(token).payload).get("iss")
    except (Unauthenticated, NotStrictJson):
        return None
    return claimed if isinstance(claimed, str) else None


def certificate_thumbprint(claims: SignedClaims) -> bytes | None:
    """SHA-256 of the certificate a token is bound to; None: a plain bearer token.

    Raises: `Unauthenticated` (`authn.token-binding`). Source: RFC 8705 §3.1, RFC 7800 §3.1.
    """
    if "cnf" not in claims:
        return None
    # STRICTER: a token bound to a key in a way that is not checked here (`jkt`, `jwk`, ...) is no bearer token either.
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or confirmation.keys() != {"x5t#S256"}:
        raise Unauthenticated("authn.token-binding", "the token is bound to its holder in a way not supported here")
    try:
        thumbprint = decode_base64url(str(confirmation["x5t#S256"]).encode("ascii"))
    except ValueError:
        thumbprint = b""
    if len(thumbprint) != 32:
        raise Unauthenticated("authn.token-binding", "the token's certificate thumbprint is malformed")
    return thumbprint


def _check_type(jws: CompactJws, rules: TokenRules) -> None:
    media_type = jws.header.media_type
    if (media_type is None and rules.type_required) or (media_type is not None and media_type not in rules.types):
        raise Unauthenticated("authn.token-type", "the token is of another kind", detail=f"typ `{jws.header.typ}`")


def _check_issuer(claims: dict[str, Any], rules: TokenRules) -> None:
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise _bad_claim("iss", "is missing or not a string")
    if issuer != rules.issuer:
        raise Unauthenticated("authn.token-issuer", "the token comes from an unknown issuer")


def _check_audience(claims: dict[str, Any], rules: TokenRules) -> None:
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    if len(listed) > MAX_AUDIENCES:
        raise _bad_claim("aud", f"names more than {MAX_AUDIENCES} audiences")
    for one in listed:
        if not isinstance(one, str) or not one.isprintable() or len(one) > MAX_CLAIM_CHARACTERS:
            raise _bad_claim("aud", "is missing or not made of plain strings")
    if rules.audiences.isdisjoint(listed):
        raise Unauthenticated("authn.token-audience", "the token is for another audience")


def _check_times(claims: dict[str, Any], leeway_s: int, now_s: float) -> None:
    if now_s >= numeric_date(claims, "exp") + leeway_s:
        raise Unauthenticated("authn.token-expired", "the token has expired")
    for name in ("nbf", "iat"):
        if name in claims and numeric_date(claims, name) > now_s + leeway_s:
            raise Unauthenticated("authn.token-early", "the token is not valid yet", detail=f"`{name}` lies ahead")


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate in seconds.

    Raises: `Unauthenticated` (`authn.token-claims`). Source: RFC 7519 §2.
    """
    value = claims.get(name)
    if type(value) is not int and type(value) is not float:
        raise _bad_claim(name, "is missing or not a number")
    if not 0 <= value <= LATEST_TIME:
        raise _bad_claim(name, "is not in seconds since 1970")
    return value


def _bad_claim(name: str, what: str) -> Unauthenticated:
    return Unauthenticated("authn.token-claims", f"the claim `{name}` {what}")


def _key_name(jws: CompactJws) -> str:
    return f"kid `{jws.header.kid}`, alg `{jws.header.algorithm[:16]}`"
