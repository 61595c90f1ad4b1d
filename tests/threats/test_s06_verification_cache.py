"""S06: a cache of verified tokens keyed by the token alone lets one verifier's answer count for another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.authn.certificates import SPIFFE, der, presented
from tests.authn.tokens import (
    ACCOUNT,
    AUDIENCE,
    EC,
    ISSUER,
    NETWORK,
    NOW,
    RSA,
    FixedKeys,
    bearer,
    claims,
    document,
    public,
    stepped,
    token,
)
from ztproxy.authn.bearer import JwtAuthenticator
from ztproxy.authn.certificate import CertificateAuthenticator
from ztproxy.authn.claims import ClaimMapping
from ztproxy.authn.keyset import parse_key_set
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity


def verifier(
    keys: FixedKeys,
    *,
    audiences: Iterable[str] = (AUDIENCE,),
    algorithms: Iterable[str] = ("RS256",),
    name: str = "corp",
) -> JwtAuthenticator:
    return JwtAuthenticator(
        name=name,
        issuer=ISSUER,
        audiences=audiences,
        algorithms=algorithms,
        leeway_s=60,
        claims=ClaimMapping(),
        keys=keys,
        proxy_account=ACCOUNT,
    )


def ask(of: JwtAuthenticator, text: bytes, after_s: float = 0) -> Identity:
    return stepped(of.identify(bearer(text), NETWORK, NOW + timedelta(seconds=after_s)))


def test_one_token_two_requirements_two_answers() -> None:
    keys, text = FixedKeys(), token()
    lenient, other_audience = verifier(keys), verifier(keys, audiences=["api://billing"])
    other_algorithms = verifier(keys, algorithms=["ES256"])
    for _ in range(3):
        assert ask(lenient, text).subject == "ada"
        with pytest.raises(Unauthenticated, match="audience"):
            ask(other_audience, text)
        with pytest.raises(Unauthenticated, match="algorithm"):
            ask(other_algorithms, text)
        assert other_audience.cached(text, NOW) is None


def test_two_names_of_one_issuer_keep_their_own_identities() -> None:
    keys, text = FixedKeys(), token()
    assert [ask(verifier(keys, name=name), text).issuer for name in ("one", "two")] == ["one", "two"]


def test_expiry_is_asked_on_every_hit() -> None:
    corp, text = verifier(FixedKeys()), token()
    ask(corp, text, 359)
    with pytest.raises(Unauthenticated, match="expired"):
        ask(corp, text, 360)


def test_a_key_that_was_taken_back_ends_its_tokens_at_once() -> None:
    keys = FixedKeys()
    corp, text = verifier(keys), token()
    ask(corp, text)
    keys.keys_now = parse_key_set(document(EC))
    with pytest.raises(Unauthenticated):
        ask(corp, text)
    # The same id with another key is another key.
    keys.keys_now = parse_key_set(document(public(RSA, n=public(RSA)["n"][:-6] + "AAAAAQ")))
    with pytest.raises(Unauthenticated):
        ask(corp, text)


def test_a_longer_or_shorter_token_is_another_token() -> None:
    corp, text = verifier(FixedKeys()), token()
    ask(corp, text)
    for other in (text + b"=", text + b"A", text[:-1], text.upper(), text + b".", b" " + text):
        assert corp.cached(other, NOW) is None
        with pytest.raises(Unauthenticated):
            ask(corp, other)


def test_a_refusal_is_no_answer_for_later() -> None:
    corp, early = verifier(FixedKeys()), token(claims(nbf=int(NOW.timestamp()) + 100))
    with pytest.raises(Unauthenticated, match="not valid yet"):
        ask(corp, early)
    assert ask(corp, early, 60).subject == "ada"


def test_one_certificate_under_two_authorities_is_two_questions() -> None:
    authenticator = CertificateAuthenticator()
    certificate = presented(der(names=[SPIFFE]), trust_domain="prod.example.com")

    def who(**changes: str | None) -> Identity:
        evidence = Evidence(certificate=replace(certificate, **changes))  # type: ignore[arg-type]
        return stepped(authenticator.identify(evidence, NETWORK, NOW))

    assert who().subject == "spiffe://prod.example.com/billing"
    assert who(trust_domain=None).subject == "ada"
    assert who(authority="guests").issuer == "guests"
    with pytest.raises(Unauthenticated):
        who(trust_domain="dev.example.com")
