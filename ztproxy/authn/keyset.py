"""An issuer's published keys, each bound at load to the algorithms it may check.

The binding is the defence against algorithm confusion (S21): a token's `alg` never chooses how a key is used, it is
only looked up in what the key already allows. Keys of unknown type are passed over (RFC 7517 §5); a key that is
symmetric, too small, for encryption or broken is left out with the reason; a key id that two signing keys share names
neither.

STRICTER: `oct` keys are never taken: a secret that is published is none.
LENIENT: a JWK with `alg` `ES521` counts as `ES512`, a slip in published examples (Wycheproof `json_web_signature` 347,
pinned in `tests/authn/test_keyset.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, OKPAlgorithm, get_default_algorithms

from ztproxy.authn.jose import MAX_KID_CHARACTERS, NotStrictJson, decode_base64url, read_object

MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
"""Source: RFC 7518 §3.3."""
MAX_RSA_BITS: Final = 8192
"""A larger modulus makes each check of a hostile token expensive."""

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""What an issuer's allow-list may name."""

_PYJWT: Final[Mapping[str, Algorithm]] = {**get_default_algorithms(), "Ed25519": OKPAlgorithm()}
"""`Ed25519` is the name RFC 9864 gives what `EdDSA` means with such a key."""
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[str, tuple[ec.EllipticCurve, str]]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}


class KeysetError(ValueError):
    """The document is not a JWK set this house can use."""


class Verifier(Protocol):
    """One key under one algorithm."""

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        ...


@dataclass(frozen=True, slots=True)
class BoundAlgorithm:
    """PyJWT's algorithm object and the one key it may check with."""

    algorithm: Algorithm
    key: Any

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        return self.algorithm.verify(signing_input, self.key, signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key and the algorithms it is bound to."""

    kid: str | None
    verifiers: Mapping[str, Verifier]
    x5t: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeySet:
    """The usable keys of one document; compared by identity, so that a cache entry holds its generation."""

    digest: str
    """SHA-256 of the document, hex."""
    keys: tuple[VerificationKey, ...]
    by_kid: Mapping[str, VerificationKey]
    """Only ids that name exactly one signing key."""
    skipped: tuple[str, ...] = ()
    """Why keys of the document are not here."""

    def knows(self, kid: str | None) -> bool:
        """Whether a token with this key id can be judged without asking the issuer again."""
        return kid is None or kid in self.by_kid

    def find(self, *, kid: str | None, x5t: str | None, algorithm: str) -> VerificationKey | None:
        """The one key a token's header points at; None when it is missing or not certain."""
        if kid is not None:
            key = self.by_kid.get(kid)
            if key is None or (x5t is not None and key.x5t is not None and x5t != key.x5t):
                return None
            return key
        fitting = [key for key in self.keys if algorithm in key.verifiers and (x5t is None or x5t == key.x5t)]
        return fitting[0] if len(fitting) == 1 else None


def parse_key_set(document: bytes) -> KeySet:
    """The keys of a JWK set document.

    Raises: `KeysetError`. Source: RFC 7517 §5.
    """
    try:
        listed = read_object(document).get("keys")
    except NotStrictJson as error:
        raise KeysetError(f"the key set is {error}") from error
    if not isinstance(listed, list):
        raise KeysetError("the key set has no list `keys`")
    if len(listed) > MAX_KEYS:
        raise KeysetError(f"the key set has more than {MAX_KEYS} keys")
    keys: list[VerificationKey] = []
    skipped: list[str] = []
    for position, jwk in enumerate(listed):
        try:
            keys.append(parse_key(jwk))
        except KeysetError as error:
            skipped.append(f"keys.{position}: {error}")
    by_kid: dict[str, VerificationKey] = {}
    shared: set[str] = set()
    for key in keys:
        if key.kid is not None and by_kid.setdefault(key.kid, key) is not key:
            shared.add(key.kid)
    for kid in sorted(shared):
        del by_kid[kid]
        skipped.append(f"the key id `{kid}` is shared by several keys")
    return KeySet(
        digest=hashlib.sha256(document).hexdigest(),
        # INVARIANT: an ambiguous id is unusable by every way in, also for tokens without an id.
        keys=tuple(key for key in keys if key.kid not in shared),
        by_kid=MappingProxyType(by_kid),
        skipped=tuple(skipped),
    )


def parse_key(jwk: object) -> VerificationKey:
    """One public signing key of a set.

    Raises: `KeysetError`. Source: RFC 7517 §4, RFC 7518 §6, RFC 8037 §2.
    """
    if not isinstance(jwk, dict):
        raise KeysetError("a key is not an object")
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and kid.isprintable() and len(kid) <= MAX_KID_CHARACTERS):
        raise KeysetError("`kid` is not plain text of bounded length")
    if jwk.get("use", "sig") != "sig":
        raise KeysetError("`use` is not `sig`")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeysetError("`key_ops` lacks `verify`")
    if "d" in jwk or jwk.get("kty") == "oct":
        raise KeysetError("a published key holds a secret")
    try:
        key, fitting = _public_key(jwk)
    except (ValueError, TypeError) as error:
        raise KeysetError(str(error) if isinstance(error, KeysetError) else "the key is malformed") from error
    named = jwk.get("alg")
    if named is not None:
        fitting = tuple(name for name in fitting if name == {"ES521": "ES512"}.get(str(named), named))
        if not fitting:
            raise KeysetError("`alg` does not fit the key's type")
    x5t = jwk.get("x5t")
    return VerificationKey(
        kid=kid,
        x5t=x5t if isinstance(x5t, str) else None,
        verifiers=MappingProxyType({name: BoundAlgorithm(_PYJWT[name], key) for name in fitting}),
    )


def _public_key(jwk: dict[str, Any]) -> tuple[object, tuple[str, ...]]:
    match jwk.get("kty"):
        case "RSA":
            modulus = int.from_bytes(_octets(jwk, "n"), "big")
            if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
                raise KeysetError(f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
            exponent = int.from_bytes(_octets(jwk, "e"), "big")
            if not 3 <= exponent < 2**32:
                raise KeysetError("the RSA exponent is out of range")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key(), _RSA
        case "EC":
            curve, algorithm = _CURVES.get(str(jwk.get("crv")), (None, ""))
            if curve is None:
                raise KeysetError("the curve is not supported")
            x, y = _octets(jwk, "x"), _octets(jwk, "y")
            if len(x) != (curve.key_size + 7) // 8 or len(y) != len(x):
                raise KeysetError("a coordinate has the wrong length")
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
            return numbers.public_key(), (algorithm,)
        case "OKP" if jwk.get("crv") == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_octets(jwk, "x")), ("EdDSA", "Ed25519")
        case _:
            raise KeysetError("the key type is not supported")


def _octets(jwk: dict[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise KeysetError(f"`{name}` is missing or not a string")
    return decode_base64url(value.encode("ascii"))
