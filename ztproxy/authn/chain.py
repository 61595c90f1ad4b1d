"""Who recognises the evidence answers for it; a route says whose answers count.

A certificate and one signed-in credential (a token or a signature) may come together: the credential's principal is
the principal, and the certificate's facts join its own, so that one policy statement can demand both. A credential
that comes and fails is a refusal even where the certificate alone would do: nobody falls back to a weaker proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable
from urllib.parse import quote

import orjson

from ztproxy.errors import Unauthenticated
from ztproxy.ports import Authenticator
from ztproxy.types import AuthenticationRule, Evidence, Identity, NetworkContext

CERTIFICATE: Final = "certificate"
_VISIBLE: Final = "!#$&'()*+,/:;=?@[]~"
_MOST_FINISHED: Final = 10_000


@runtime_checkable
class Confirming(Protocol):
    """An authenticator whose proof can be asked for again cheaply."""

    def confirms(self, evidence: Evidence, now: datetime) -> bool:
        """Whether the proof it gave for this very evidence still holds: same keys, inside its validity."""


def upstream_headers(identity: Identity) -> tuple[tuple[bytes, bytes], ...]:
    """The identity fields an upstream receives; values are visible ASCII, anything else percent-encoded."""

    def text(value: str) -> bytes:
        return quote(value, safe=_VISIBLE).encode("ascii")

    groups = orjson.dumps(identity.groups).decode()
    return (
        (b"X-Ztproxy-Subject", text(identity.subject)),
        (b"X-Ztproxy-Issuer", text(identity.issuer)),
        (b"X-Ztproxy-Method", text(identity.method)),
        # A JSON list: a group's own comma can then never look like a second group (S15).
        (b"X-Ztproxy-Groups", quote(groups, safe=_VISIBLE + '" {}').encode("ascii")),
    )


def joined(credential: Identity, certificate: Identity) -> Identity:
    """The credential's identity with the certificate's facts beside its own."""
    return replace(
        credential,
        method=f"{credential.method}+{certificate.method}",
        expires_at=min(credential.expires_at, certificate.expires_at),
        facts=MappingProxyType({**certificate.facts, **credential.facts}),
    )


class AuthenticationChain:
    """All authenticators of one configuration generation."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._certificate: Final = next((each for each in authenticators if each.name == CERTIFICATE), None)
        self._credentials: Final = tuple(each for each in authenticators if each.name != CERTIFICATE)
        self._proven: Final[dict[int, tuple[Evidence, AuthenticationRule, Confirming, Identity]]] = {}
        self._finished: Final[dict[int, tuple[Identity, Identity | None, Identity]]] = {}

    def standing(self, rule: AuthenticationRule, evidence: Evidence, now: datetime) -> Identity | None:
        """The identity this very evidence has proven before under this rule, if every proof still holds."""
        proven = self._proven.get(id(evidence))
        # INVARIANT: an entry holds its evidence, so the id is not that of a later one. Keys and time are asked again.
        if proven is None or proven[0] is not evidence or proven[1] is not rule:
            return None
        if proven[2].confirms(evidence, now) and now < proven[3].expires_at:
            return proven[3]
        del self._proven[id(evidence)]
        return None

    async def identify(
        self, rule: AuthenticationRule, evidence: Evidence, network: NetworkContext, now: datetime
    ) -> Identity:
        """The identity that satisfies a route's rule; finishes without suspending when every proof is cached.

        Raises: `Unauthenticated`.
        """
        if rule.anonymous:
            return anonymous(now)
        certificate = credential = authenticator = None
        name = ""
        if evidence.certificate is not None and self._certificate is not None:
            certificate = await self._certificate.identify(evidence, network, now)
        elif CERTIFICATE in rule.all_of:
            raise Unauthenticated("authn.certificate-missing", "this needs a client certificate")
        if evidence.bearer is not None or evidence.signed is not None:
            authenticator = self._answering(rule, evidence)
            if authenticator is not None:
                name = authenticator.name
                credential = await authenticator.identify(evidence, network, now)
        for wanted in rule.all_of:
            if wanted != name and (wanted != CERTIFICATE or certificate is None):
                raise Unauthenticated("authn.missing", "the route demands a further credential that did not come")
        if rule.any_of and name not in rule.any_of and (CERTIFICATE not in rule.any_of or certificate is None):
            raise Unauthenticated("authn.missing", "no credential that this route accepts came with the request")
        if credential is not None:
            identity = self._finish(credential, certificate)
            if isinstance(authenticator, Confirming):
                if len(self._proven) >= _MOST_FINISHED:
                    del self._proven[next(iter(self._proven))]
                self._proven[id(evidence)] = (evidence, rule, authenticator, identity)
            return identity
        if certificate is None:
            raise Unauthenticated("authn.missing", "no credential came with the request")
        return self._finish(certificate, None)

    def _answering(self, rule: AuthenticationRule, evidence: Evidence) -> Authenticator | None:
        """The authenticator that answers for a token or signature; None where the route asks for neither kind."""
        if evidence.bearer is not None and evidence.signed is not None:
            raise Unauthenticated("authn.ambiguous", "a token and a signature came together")
        asked = False
        for authenticator in self._credentials:
            if authenticator.name in rule.any_of or authenticator.name in rule.all_of:
                asked = True
                if authenticator.recognises(evidence):
                    return authenticator
        if not asked:
            return None
        if evidence.signed is not None:
            raise Unauthenticated("authn.missing", "signed requests are not accepted here")
        raise Unauthenticated("authn.token-issuer", "the token comes from no issuer that is accepted here")

    def _finish(self, primary: Identity, certificate: Identity | None) -> Identity:
        """The joined identity with its upstream fields, made once for each pair."""
        known = self._finished.get(id(primary))
        # INVARIANT: the entry holds its inputs, so an id cannot have been given to another object meanwhile.
        if known is not None and known[0] is primary and known[1] is certificate:
            return known[2]
        identity = primary if certificate is None else joined(primary, certificate)
        identity = replace(identity, upstream_headers=upstream_headers(identity))
        if len(self._finished) >= _MOST_FINISHED:
            del self._finished[next(iter(self._finished))]
        self._finished[id(primary)] = (primary, certificate, identity)
        return identity


def anonymous(now: datetime) -> Identity:
    """Nobody in particular, where a route allows it by name; only `Principal: "*"` matches."""
    return Identity(
        subject="anonymous",
        kind="anonymous",
        issuer="",
        method="none",
        authenticated_at=now,
        expires_at=datetime.max.replace(tzinfo=now.tzinfo),
        facts=MappingProxyType({"aws:principaltype": "Anonymous"}),
    )
