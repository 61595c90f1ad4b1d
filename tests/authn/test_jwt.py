from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from tests.authn.tokens import AUDIENCE, EC, ED, ISSUER, KEYS, NOW, NOW_S, PS, RSA, claims, document, public, token
from ztproxy.authn.jose import read_compact
from ztproxy.authn.jwt import (
    LATEST_TIME,
    MAX_AUDIENCES,
    MAX_CLAIM_CHARACTERS,
    SignedClaims,
    TokenRules,
    certificate_thumbprint,
    claimed_issuer,
    numeric_date,
    verify,
    verify_signature,
)
from ztproxy.authn.keyset import KeySet, VerificationKey, parse_key_set
from ztproxy.errors import Unauthenticated

RULES = TokenRules(
    issuer=ISSUER, audiences=frozenset({AUDIENCE}), algorithms=frozenset({"RS256", "PS256", "ES256", "EdDSA"})
)


def verified(text: bytes, rules: TokenRules = RULES, keys: KeySet = KEYS) -> SignedClaims:
    return verify(read_compact(text), rules, keys, NOW)


def refused(code: str, text: bytes, rules: TokenRules = RULES, keys: KeySet = KEYS) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        verified(text, rules, keys)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize("key", [RSA, PS, EC, ED])
def test_a_good_token_gives_its_claims(key: Any) -> None:
    assert verified(token(key=key)) == claims()


def test_signed_claims_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        verified(token())["sub"] = "eve"  # type: ignore[index]


@pytest.mark.parametrize("key", [RSA, PS, EC, ED])
def test_a_changed_byte_is_noticed(key: Any) -> None:
    header, _, signature = token(key=key).split(b".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(sub="eve")).encode()).rstrip(b"=")
    refused("authn.token-signature", b".".join([header, payload, signature]))
    cut = base64.urlsafe_b64encode(base64.urlsafe_b64decode(signature + b"==")[:-1]).rstrip(b"=")
    refused("authn.token-signature", b".".join([header, token(key=key).split(b".")[1], cut]))
    refused("authn.token-signature", token(key=key).rpartition(b".")[0] + b".")


def test_an_algorithm_outside_the_allow_list() -> None:
    refused("authn.token-algorithm", token(key=EC), replace(RULES, algorithms=frozenset({"RS256"})))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "rs256", "RS256 ", ""])
def test_an_algorithm_nobody_has(algorithm: str) -> None:
    refused("authn.token-algorithm", token(header={"alg": "RS256"}).replace(*_swap("RS256", algorithm)))


def _swap(old: str, new: str) -> tuple[bytes, bytes]:
    before = json.dumps({"alg": old, "typ": "JWT", "kid": "rsa-1"}, separators=(",", ":")).encode()
    after = before.replace(f'"{old}"'.encode(), json.dumps(new).encode())
    return tuple(base64.urlsafe_b64encode(text).rstrip(b"=") for text in (before, after))  # type: ignore[return-value]


def test_an_allowed_algorithm_on_a_key_of_another_kind() -> None:
    refused("authn.token-algorithm", token(key=EC, header={"kid": "rsa-1"}))


@pytest.mark.parametrize("kid", ["gone", "../../dev/null", "rsa-1 ", "RSA-1"])
def test_an_unknown_key_id(kid: str) -> None:
    refused("authn.token-key", token(header={"kid": kid}))


def test_without_a_key_id_the_one_fitting_key_judges() -> None:
    assert verified(token(header={"kid": None}))["sub"] == "ada"
    two = parse_key_set(document(RSA, public(PS, alg="RS256")))
    refused("authn.token-key", token(header={"kid": None}), keys=two)


def test_a_verifier_that_breaks_is_a_refusal() -> None:
    class Broken:
        def verify(self, signing_input: bytes, signature: bytes) -> bool:
            raise OverflowError

    class Vague(Broken):
        def verify(self, signing_input: bytes, signature: bytes) -> bool:
            return 1  # type: ignore[return-value]

    for verifier in (Broken(), Vague()):
        key = VerificationKey(kid="rsa-1", verifiers=MappingProxyType({"RS256": verifier}))
        keys = KeySet(digest="", keys=(key,), by_kid=MappingProxyType({"rsa-1": key}))
        refused("authn.token-signature", token(), keys=keys)


def test_verify_signature_alone_looks_at_no_claims() -> None:
    verify_signature(read_compact(token(b"any octets")), KEYS, frozenset({"RS256"}))


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt", "APPLICATION/JWT"])
def test_types_taken(typ: str | None) -> None:
    verified(token(header={"typ": typ}))


@pytest.mark.parametrize("typ", ["", "dpop+jwt", "secevent+jwt", "logout+jwt", "ztproxy-identity+jwt", "at+jwt "])
def test_types_refused(typ: str) -> None:
    refused("authn.token-type", token(header={"typ": typ}))


def test_a_required_type() -> None:
    rules = replace(RULES, types=frozenset({"at+jwt"}), type_required=True)
    verified(token(header={"typ": "at+jwt"}), rules)
    refused("authn.token-type", token(header={"typ": None}), rules)
    refused("authn.token-type", token(header={"typ": "JWT"}), rules)


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'{"iss":1} x', json.dumps(claims()).encode("utf-16"), b'{"sub":"a","sub":"a"}', b"{" * 9000],
)
def test_a_payload_that_is_no_strict_object(payload: bytes) -> None:
    refused("authn.token-malformed", token(payload or b" "))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("claims", {"iss": None}),
        ("claims", {"iss": [ISSUER]}),
        ("issuer", {"iss": ISSUER + "/"}),
        ("issuer", {"iss": ISSUER.upper()}),
        ("issuer", {"iss": "https://login.example.com@attacker.example"}),
        ("claims", {"aud": None}),
        ("claims", {"aud": 7}),
        ("claims", {"aud": {AUDIENCE: 1}}),
        ("claims", {"aud": [[AUDIENCE]]}),
        ("claims", {"aud": [AUDIENCE, None]}),
        ("claims", {"aud": [AUDIENCE, "a\nb"]}),
        ("claims", {"aud": [AUDIENCE, "a" * (MAX_CLAIM_CHARACTERS + 1)]}),
        ("claims", {"aud": [AUDIENCE] * (MAX_AUDIENCES + 1)}),
        ("audience", {"aud": []}),
        ("audience", {"aud": "api://billing"}),
        ("audience", {"aud": AUDIENCE.upper()}),
        ("audience", {"aud": " " + AUDIENCE}),
        ("audience", {"aud": ["x" + AUDIENCE]}),
        ("claims", {"exp": None}),
        ("claims", {"exp": str(NOW_S + 300)}),
        ("claims", {"exp": True}),
        ("claims", {"exp": [NOW_S + 300]}),
        ("claims", {"exp": (NOW_S + 300) * 1000}),
        ("claims", {"exp": LATEST_TIME + 1}),
        ("claims", {"exp": 10**400}),
        ("claims", {"exp": -1}),
        ("expired", {"exp": NOW_S - 60}),
        ("expired", {"exp": 0}),
        ("claims", {"nbf": "soon"}),
        ("claims", {"nbf": False}),
        ("early", {"nbf": NOW_S + 61}),
        ("claims", {"iat": "now"}),
        ("early", {"iat": NOW_S + 61}),
        ("early", {"iat": NOW_S * 1000 // 20}),
        ("claims", {"sub": ""}),
        ("claims", {"sub": 7}),
        ("claims", {"sub": " ada"}),
        ("claims", {"sub": "ada\r\nX-Groups: admin"}),
        ("claims", {"sub": "ada\u202eadmin"}),
        ("claims", {"sub": "a" * 256}),
    ],
)
def test_claims_refused(code: str, changes: dict[str, Any]) -> None:
    payload = json.dumps(claims(**changes)).encode()
    expected = "authn.token-malformed" if changes.get("exp") == 10**400 else f"authn.token-{code}"
    refused(expected, token(payload))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW_S - 59},
        {"exp": NOW_S + 0.5},
        {"exp": LATEST_TIME},
        {"nbf": NOW_S + 60},
        {"nbf": NOW_S - 0.5},
        {"nbf": None, "iat": None},
        {"aud": ["other", AUDIENCE]},
        {"aud": [AUDIENCE] * MAX_AUDIENCES},
        {"sub": "Jürgen-名"},
        {"sub": "Ju\u0308rgen"},
        {"sub": None},
    ],
)
def test_claims_taken(changes: dict[str, Any]) -> None:
    assert verified(token(claims(**changes))) == claims(**changes)


def test_the_moment_of_expiry_is_past() -> None:
    jws = read_compact(token())
    end = NOW + timedelta(seconds=300 + RULES.leeway_s)
    assert verify(jws, RULES, KEYS, end - timedelta(microseconds=1000))
    with pytest.raises(Unauthenticated, match="expired"):
        verify(jws, RULES, KEYS, end)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": ""},
        {"audiences": frozenset()},
        {"audiences": {""}},
        {"algorithms": frozenset()},
        {"types": frozenset()},
    ],
)
def test_an_empty_rule_is_no_rule(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(RULES, **changes)


def test_the_claimed_issuer_is_read_without_proof() -> None:
    assert claimed_issuer(token()) == ISSUER
    assert claimed_issuer(token(claims(iss=None))) is None
    assert claimed_issuer(token(claims(iss=["x"]))) is None
    assert claimed_issuer(token(b"not json")) is None
    assert claimed_issuer(b"no token") is None


def test_numeric_dates() -> None:
    assert numeric_date({"exp": 1.5}, "exp") == 1.5
    with pytest.raises(Unauthenticated):
        numeric_date({}, "exp")


def test_the_thumbprint_of_a_bound_token() -> None:
    digest = hashlib.sha256(b"certificate").digest()
    text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert certificate_thumbprint(SignedClaims({"cnf": {"x5t#S256": text}})) == digest
    assert certificate_thumbprint(SignedClaims({})) is None


@pytest.mark.parametrize(
    "confirmation",
    [
        None,
        "x5t#S256",
        [],
        {},
        {"jkt": "a"},
        {"x5t#S256": "A" * 43, "jkt": "a"},
        {"x5t#S256": "A" * 42},
        {"x5t#S256": "A" * 44},
        {"x5t#S256": "é"},
        {"x5t#S256": 5},
        {"x5t#S256": "A" * 42 + "="},
    ],
)
def test_a_binding_that_cannot_be_checked_is_a_refusal(confirmation: object) -> None:
    with pytest.raises(Unauthenticated) as caught:
        certificate_thumbprint(SignedClaims({"cnf": confirmation}))
    assert caught.value.code == "authn.token-binding"
