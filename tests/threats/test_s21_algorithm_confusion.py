"""S21: the token says how it wants to be checked. Here the issuer's list and the key's type decide, never the token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import RSAKey

from tests.authn.tokens import AUDIENCE, EC, ISSUER, KEYS, NOW, RSA, claims, document, public, token
from ztproxy.authn.jose import read_compact
from ztproxy.authn.jwt import TokenRules, verify
from ztproxy.authn.keyset import ALGORITHMS, parse_key_set
from ztproxy.errors import Unauthenticated

RULES = TokenRules(issuer=ISSUER, audiences=frozenset({AUDIENCE}))
EVERYTHING = TokenRules(
    issuer=ISSUER, audiences=frozenset({AUDIENCE}), algorithms=ALGORITHMS | {"none", "HS256", "HS384", "HS512"}
)


def b64(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def refused(text: bytes, rules: TokenRules = EVERYTHING, keys: Any = KEYS) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(read_compact(text), rules, keys, NOW)
    return caught.value.code


def unsigned(header: dict[str, Any]) -> bytes:
    return b64(json.dumps(header).encode()) + b"." + b64(json.dumps(claims()).encode())


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", [b"", b"AA", b64(bytes(256))])
def test_no_signature_is_never_enough(algorithm: str, signature: bytes) -> None:
    for header in ({"alg": algorithm}, {"alg": algorithm, "kid": "rsa-1"}):
        assert refused(unsigned(header) + b"." + signature) in {"authn.token-algorithm", "authn.token-key"}


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_public_key_is_no_shared_secret(digest: str) -> None:
    key = parse_key_set(document(RSA)).keys[0].verifiers["RS256"].key  # type: ignore[attr-defined]
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secrets = [pem, pem.strip(), key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), b"", document(RSA)]
    text = unsigned({"alg": "HS" + digest[3:], "kid": "rsa-1"})
    for secret in secrets:
        forged = text + b"." + b64(hmac.new(secret, text, getattr(hashlib, digest)).digest())
        # Even an issuer whose list names HMAC has no key that could check it.
        assert refused(forged) == "authn.token-algorithm"
        assert refused(forged, RULES) == "authn.token-algorithm"


def test_an_algorithm_must_be_the_keys_own() -> None:
    assert refused(token(key=RSA, header={"kid": "ps-1"})) == "authn.token-algorithm"
    assert refused(token(key=EC, header={"kid": "rsa-1"})) == "authn.token-algorithm"
    assert refused(token(key=EC, header={"kid": "ed-1"})) == "authn.token-algorithm"


def test_an_algorithm_must_be_on_the_issuers_list() -> None:
    rules = TokenRules(issuer=ISSUER, audiences=frozenset({AUDIENCE}), algorithms=frozenset({"ES256"}))
    keys = parse_key_set(document(public(RSA, alg=None), EC))
    assert refused(token(), rules, keys) == "authn.token-algorithm"


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://attacker.example/jwks"},
        {"x5u": "https://attacker.example/chain.pem"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
    ],
)
def test_a_header_chooses_no_key_and_changes_no_meaning(header: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        read_compact(unsigned({"alg": "RS256", "kid": "rsa-1", **header}) + b"." + b64(bytes(256)))
    assert caught.value.code == "authn.token-malformed"


def test_an_embedded_key_is_not_taken() -> None:
    attacker = RSAKey.generate_key(2048, {"kid": "rsa-1", "alg": "RS256"})
    with pytest.raises(Unauthenticated):
        read_compact(unsigned({"alg": "RS256", "kid": "rsa-1", "jwk": public(attacker)}) + b"." + b64(bytes(256)))
    assert refused(token(key=attacker)) == "authn.token-signature"


@pytest.mark.parametrize("claim", ["iss", "aud", "exp"])
def test_mandatory_claims(claim: str) -> None:
    assert refused(token(claims(**{claim: None}))) == "authn.token-claims"


def test_an_audience_list_is_searched_by_whole_members() -> None:
    assert verify(read_compact(token(claims(aud=["x", AUDIENCE]))), RULES, KEYS, NOW)
    for audience in (["api", "://orders"], list(AUDIENCE), [AUDIENCE[:-1]], AUDIENCE + " other"):
        assert refused(token(claims(aud=audience))) == "authn.token-audience"
