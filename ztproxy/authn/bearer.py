"""Bearer tokens of one issuer -> `Identity`, with the cache of verified tokens.

A token is verified once and found by its exact bytes after that. What holds for every hit (S06): the cache belongs to
one issuer, one set of audiences and one configuration, because the authenticator does; the entry holds only while the
key set it was verified with is the current one and while the token is inside its validity; and a token bound to a
certificate is compared with the certificate of this very request. Refusals are never kept.

The cache is bounded in entries and in bytes of tokens; the least recently used goes first.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from ztproxy.authn.claims import ClaimMapping, Federation, token_identity
from ztproxy.authn.jwt import (
    TOKEN_TYPES,
    TokenRules,
    certificate_thumbprint,
    claimed_issuer,
    numeric_date,
    read_token,
    verify,
)
from ztproxy.authn.keyset import KeySet
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity, NetworkContext, PresentedCertificate

CACHE_ENTRIES: Final = 10_000
CACHE_TOKEN_BYTES: Final = 32 * 1024 * 1024


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    def current(self) -> KeySet | None:
        """The keys in force, without waiting."""
        ...

    async def keys(self, kid: str | None) -> KeySet:
        """The keys to judge a token by that names this key id."""
        ...


@dataclass(frozen=True, slots=True)
class _Verified:
    identity: Identity
    keys: KeySet
    valid_from: datetime
    thumbprint: bytes | None


class JwtAuthenticator:
    """One OIDC issuer; an `Authenticator`."""

    def __init__(
        self,
        *,
        name: str,
        issuer: str,
        audiences: Iterable[str],
        algorithms: Iterable[str],
        leeway_s: int,
        claims: ClaimMapping,
        keys: KeySource,
        proxy_account: str,
        partition: str = "aws",
        types: Iterable[str] = TOKEN_TYPES,
        type_required: bool = False,
        cache_entries: int = CACHE_ENTRIES,
        cache_token_bytes: int = CACHE_TOKEN_BYTES,
    ) -> None:
        self.name = name
        self._rules: Final = TokenRules(
            issuer=issuer,
            audiences=frozenset(audiences),
            algorithms=frozenset(algorithms),
            leeway_s=leeway_s,
            types=frozenset(types),
            type_required=type_required,
        )
        self._mapping: Final = claims
        self._keys: Final = keys
        self._federation: Final = Federation.of(name=name, issuer=issuer, partition=partition, account=proxy_account)
        self._verified: Final[OrderedDict[bytes, _Verified]] = OrderedDict()
        self._cache_entries: Final = cache_entries
        self._cache_token_bytes: Final = cache_token_bytes
        self._token_bytes = 0

    def recognises(self, evidence: Evidence) -> bool:
        """Whether a bearer token came that claims to be this issuer's."""
        if evidence.bearer is None:
            return False
        token = evidence.bearer.reveal()
        return token in self._verified or claimed_issuer(token) == self._rules.issuer

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        """The identity a valid token proves.

        Finishes without suspending unless the issuer's keys must be fetched first.
        Raises: `Unauthenticated`.
        """
        if evidence.bearer is None:
            raise Unauthenticated("authn.missing", "a bearer token is required")
        token = evidence.bearer.reveal()
        verified = self._hit(token, now)
        if verified is None:
            verified = await self._verify(token, now)
        if verified.thumbprint is not None:
            _check_binding(verified.thumbprint, evidence.certificate)
        return verified.identity

    def confirms(self, evidence: Evidence, now: datetime) -> bool:
        """Whether a token it verified is still good: the same keys in force, inside its validity.

        What binds it to a certificate was compared with this very evidence, which does not change.
        """
        bearer = evidence.bearer
        return bearer is not None and self._hit(bearer.reveal(), now) is not None

    def cached(self, token: bytes, now: datetime) -> Identity | None:
        """The identity of a token verified before that is still good; None when `identify` must be asked.

        A token bound to a certificate is never answered here.
        """
        verified = self._hit(token, now)
        return None if verified is None or verified.thumbprint is not None else verified.identity

    def forget(self) -> None:
        """Empties the cache, as a revocation wants it."""
        self._verified.clear()
        self._token_bytes = 0

    def _hit(self, token: bytes, now: datetime) -> _Verified | None:
        verified = self._verified.get(token)
        if verified is None:
            return None
        # INVARIANT: keys and time are asked on every hit.
        if verified.keys is self._keys.current() and verified.valid_from <= now < verified.identity.expires_at:
            self._verified.move_to_end(token)
            return verified
        self._drop(token)
        return None

    async def _verify(self, token: bytes, now: datetime) -> _Verified:
        jws = read_token(token)
        keys = await self._keys.keys(jws.header.kid)
        claims = verify(jws, self._rules, keys, now)
        leeway_s = self._rules.leeway_s
        begins_s = numeric_date(claims, "nbf") - leeway_s if "nbf" in claims else 0
        verified = _Verified(
            identity=token_identity(claims, self._mapping, self._federation, leeway_s=leeway_s, now=now),
            keys=keys,
            valid_from=datetime.fromtimestamp(begins_s, UTC),
            thumbprint=certificate_thumbprint(claims),
        )
        self._keep(token, verified)
        return verified

    def _keep(self, token: bytes, verified: _Verified) -> None:
        if len(token) > self._cache_token_bytes:
            return
        self._drop(token)
        self._verified[token] = verified
        self._token_bytes += len(token)
        while len(self._verified) > self._cache_entries or self._token_bytes > self._cache_token_bytes:
            oldest, _ = self._verified.popitem(last=False)
            self._token_bytes -= len(oldest)

    def _drop(self, token: bytes) -> None:
        if self._verified.pop(token, None) is not None:
            self._token_bytes -= len(token)


def _check_binding(thumbprint: bytes, certificate: PresentedCertificate | None) -> None:
    """Source: RFC 8705 §3."""
    if certificate is None:
        raise Unauthenticated("authn.token-binding", "the token is bound to a client certificate and none came")
    if not hmac.compare_digest(thumbprint, hashlib.sha256(certificate.der).digest()):
        raise Unauthenticated("authn.token-binding", "the token is bound to another client certificate")
