from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.authn.certificates import der, presented
from tests.authn.tokens import (
    ACCOUNT,
    AUDIENCE,
    EC,
    ISSUER,
    KEYS,
    NETWORK,
    NOW,
    NOW_S,
    RSA,
    FixedKeys,
    bearer,
    claims,
    document,
    stepped,
    token,
)
from ztproxy.authn import bearer as module
from ztproxy.authn.bearer import JwtAuthenticator
from ztproxy.authn.claims import ClaimMapping
from ztproxy.authn.jwt import verify
from ztproxy.authn.keyset import parse_key_set
from ztproxy.errors import Unauthenticated
from ztproxy.ports import Authenticator
from ztproxy.types import Evidence, Identity, Secret


def authenticator(keys: Any = None, **changes: Any) -> JwtAuthenticator:
    settings: dict[str, Any] = {
        "name": "corp",
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "algorithms": ["RS256", "ES256"],
        "leeway_s": 60,
        "claims": ClaimMapping(),
        "keys": keys or FixedKeys(),
        "proxy_account": ACCOUNT,
        "partition": "aws",
    }
    return JwtAuthenticator(**{**settings, **changes})


def identify(of: JwtAuthenticator, evidence: Evidence | bytes, now: datetime = NOW) -> Identity:
    return stepped(of.identify(bearer(evidence) if isinstance(evidence, bytes) else evidence, NETWORK, now))


def refused(code: str, of: JwtAuthenticator, evidence: Evidence | bytes, now: datetime = NOW) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identify(of, evidence, now)
    assert caught.value.code == code


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was really verified, cache hits left out."""
    seen: list[bytes] = []

    def counting(jws: Any, *rest: Any) -> Any:
        seen.append(jws.signing_input)
        return verify(jws, *rest)

    monkeypatch.setattr(module, "verify", counting)
    return seen


def test_it_recognises_its_own_issuer() -> None:
    corp: Authenticator = authenticator()
    assert corp.name == "corp"
    assert corp.recognises(bearer(token()))
    assert not corp.recognises(bearer(token(claims(iss="https://other.example.com"))))
    assert not corp.recognises(bearer(b"junk"))
    assert not corp.recognises(Evidence())
    refused("authn.missing", authenticator(), Evidence())


def test_it_recognises_what_it_verified() -> None:
    corp = authenticator()
    identify(corp, token())
    assert corp.recognises(bearer(token()))


def test_a_token_is_verified_once(checks: list[bytes]) -> None:
    corp, text = authenticator(), token()
    first = identify(corp, text)
    assert first.subject == "ada"
    assert identify(corp, bytes(bytearray(text)), NOW + timedelta(seconds=100)) is first
    assert corp.cached(text, NOW) is first
    assert len(checks) == 1


def test_cached_asks_nobody(checks: list[bytes]) -> None:
    assert authenticator().cached(token(), NOW) is None
    assert checks == []


def test_a_hit_ends_with_the_token(checks: list[bytes]) -> None:
    corp, text = authenticator(), token(claims(nbf=NOW_S))
    identify(corp, text)
    end = NOW + timedelta(seconds=360)
    assert corp.cached(text, end - timedelta(microseconds=1)) is not None
    assert corp.cached(text, end) is None
    identify(corp, text)
    refused("authn.token-expired", corp, text, end)
    identify(corp, text)
    refused("authn.token-early", corp, text, NOW - timedelta(seconds=61))


def test_another_key_set_ends_every_hit(checks: list[bytes]) -> None:
    keys = FixedKeys()
    corp, text = authenticator(keys), token()
    identify(corp, text)
    keys.keys_now = parse_key_set(document(RSA, EC))
    identify(corp, text)
    assert len(checks) == 2
    keys.keys_now = parse_key_set(document(EC))
    refused("authn.token-key", corp, text)
    assert corp.cached(text, NOW) is None


def test_no_keys_end_every_hit() -> None:
    keys = FixedKeys()
    corp, text = authenticator(keys), token()
    identify(corp, text)
    keys.keys_now = None
    assert corp.cached(text, NOW) is None


def test_refusals_are_not_kept(checks: list[bytes]) -> None:
    corp, text = authenticator(), token(claims(aud="other"))
    for _ in range(2):
        refused("authn.token-audience", corp, text)
    assert len(checks) == 2


def test_keys_are_asked_for_by_id() -> None:
    keys = FixedKeys()
    identify(authenticator(keys), token())
    identify(authenticator(keys), token(header={"kid": None}))
    assert keys.asked == ["rsa-1", None]


def test_the_cache_is_bounded_in_entries(checks: list[bytes]) -> None:
    corp = authenticator(cache_entries=2)
    one, two, three = (token(claims(jti=name)) for name in "abc")
    for text in (one, two, one, three, one):
        identify(corp, text)
    assert len(checks) == 3
    assert corp.cached(two, NOW) is None


def test_the_cache_is_bounded_in_bytes() -> None:
    one, two = token(claims(jti="a")), token(claims(jti="b"))
    corp = authenticator(cache_token_bytes=len(one) + len(two) - 1)
    identify(corp, one)
    identify(corp, two)
    assert corp.cached(one, NOW) is None
    assert corp.cached(two, NOW) is not None
    large = token(claims(jti="c" * len(one) * 2))
    identify(corp, large)
    assert corp.cached(large, NOW) is None
    assert corp.cached(two, NOW) is not None


def test_a_token_kept_twice_counts_once() -> None:
    keys = FixedKeys()
    text = token()
    corp = authenticator(keys, cache_token_bytes=len(text) * 2 - 1)
    for _ in range(5):
        identify(corp, text)
        keys.keys_now = parse_key_set(document(RSA))
    assert identify(corp, text) is corp.cached(text, NOW)


def test_forgetting() -> None:
    corp = authenticator()
    identify(corp, token())
    corp.forget()
    assert corp.cached(token(), NOW) is None


def bound_to(octets: bytes) -> bytes:
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).rstrip(b"=").decode()
    return token(claims(cnf={"x5t#S256": thumbprint}))


def test_a_bound_token_needs_its_certificate_on_every_request(checks: list[bytes]) -> None:
    corp, mine, other = authenticator(), der(serial=1), der(serial=2)
    text = bound_to(mine)
    for _ in range(2):
        refused("authn.token-binding", corp, text)
        refused("authn.token-binding", corp, Evidence(bearer=Secret(text), certificate=presented(other)))
        assert identify(corp, Evidence(bearer=Secret(text), certificate=presented(mine))).subject == "ada"
    assert len(checks) == 1
    assert corp.cached(text, NOW) is None


def test_a_binding_of_another_kind_is_refused() -> None:
    refused("authn.token-binding", authenticator(), token(claims(cnf={"jkt": "x"})))


def test_types_can_be_narrowed() -> None:
    corp = authenticator(types=["at+jwt"], type_required=True)
    refused("authn.token-type", corp, token())
    assert identify(corp, token(header={"typ": "at+jwt"})).subject == "ada"


def test_the_token_shows_in_no_refusal() -> None:
    text = token(claims(aud="other"))
    with pytest.raises(Unauthenticated) as caught:
        identify(authenticator(), text)
    said = json.dumps([str(caught.value), repr(caught.value), caught.value.detail])
    assert not any(part.decode() in said for part in text.split(b"."))
    assert KEYS.keys
