from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OctKey, OKPKey

from tests.authn.tokens import EC, ED, KEYS, PS, RSA, document, public, token
from ztproxy.authn.jose import MAX_KID_CHARACTERS, read_compact
from ztproxy.authn.keyset import ALGORITHMS, MAX_KEYS, KeysetError, parse_key, parse_key_set


def test_every_key_is_bound_to_its_algorithms() -> None:
    assert {key.kid: set(key.verifiers) for key in KEYS.keys} == {
        "rsa-1": {"RS256"},
        "ps-1": {"PS256"},
        "ec-1": {"ES256"},
        "ed-1": {"EdDSA"},
    }
    assert KEYS.skipped == ()


def test_a_key_without_alg_fits_what_its_type_allows() -> None:
    assert set(parse_key(public(RSA, alg=None)).verifiers) == {a for a in ALGORITHMS if a[:2] in {"RS", "PS"}}
    assert set(parse_key(public(ED, alg=None)).verifiers) == {"EdDSA", "Ed25519"}
    for curve, algorithm in (("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")):
        assert set(parse_key(ECKey.generate_key(curve).as_dict(private=False)).verifiers) == {algorithm}


@pytest.mark.parametrize("key", [RSA, PS, EC, ED])
def test_a_bound_algorithm_knows_its_signature(key: Any) -> None:
    jws = read_compact(token(key=key))
    verifier = parse_key(public(key)).verifiers[jws.header.algorithm]
    assert verifier.verify(jws.signing_input, jws.signature)
    assert not verifier.verify(jws.signing_input + b"x", jws.signature)
    assert not verifier.verify(jws.signing_input, jws.signature[:-1])


def test_the_es521_slip_is_read_as_es512() -> None:
    key = ECKey.generate_key("P-521").as_dict(private=False)
    assert set(parse_key({**key, "alg": "ES521"}).verifiers) == {"ES512"}


def test_key_ops_and_x5t_are_read() -> None:
    key = parse_key(public(RSA, use=None, key_ops=["verify"], x5t="thumb", kid=None))
    assert (key.kid, key.x5t) == (None, "thumb")
    assert parse_key(public(RSA, x5t=5)).x5t is None


@pytest.mark.parametrize(
    ("jwk", "word"),
    [
        ("rsa-1", "not an object"),
        (public(RSA, kid=1), "`kid`"),
        (public(RSA, kid="a\nb"), "`kid`"),
        (public(RSA, kid="k" * (MAX_KID_CHARACTERS + 1)), "`kid`"),
        (public(RSA, use="enc"), "`use`"),
        (public(RSA, use=["sig"]), "`use`"),
        (public(RSA, key_ops=["sign"]), "`key_ops`"),
        (public(RSA, key_ops="verify"), "`key_ops`"),
        (RSA.as_dict(private=True), "secret"),
        (OctKey.generate_key(256).as_dict(), "secret"),
        (public(RSA, alg="ES256"), "`alg`"),
        (public(RSA, alg="RSA1_5"), "`alg`"),
        (public(RSA, alg=["RS256"]), "`alg`"),
        (public(RSA, alg="HS256"), "`alg`"),
        (public(RSA, n="AQAB"), "bits"),
        (public(RSA, n="A" + "_" * 1403), "bits"),
        (public(RSA, n=None), "`n`"),
        (public(RSA, n="not base64!"), "malformed"),
        (public(RSA, n="é"), "malformed"),
        (public(RSA, e=1), "`e`"),
        (public(RSA, e="AQ"), "exponent"),
        (public(RSA, e="AQAAAAAB"), "exponent"),
        (public(RSA, e="BA"), "malformed"),
        (public(EC, crv="P-384"), "length"),
        (public(EC, crv="secp256k1", alg=None), "curve"),
        (public(EC, crv=["P-256"]), "curve"),
        (public(EC, x=public(EC)["y"], y=public(EC)["x"]), "malformed"),
        (public(EC, y="AA"), "length"),
        (public(ED, crv="X25519"), "type"),
        (public(ED, x="AA"), "malformed"),
        ({"kty": "XYZ"}, "type"),
        ({}, "type"),
        (OKPKey.generate_key("Ed448").as_dict(private=False), "type"),
    ],
)
def test_keys_left_out(jwk: object, word: str) -> None:
    with pytest.raises(KeysetError, match=word):
        parse_key(jwk)


def test_small_rsa_keys_are_left_out() -> None:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()
    modulus = base64.urlsafe_b64encode(numbers.n.to_bytes(128, "big")).rstrip(b"=").decode()
    small = {"kty": "RSA", "kid": "small", "n": modulus, "e": "AQAB"}
    keys = parse_key_set(document(small, RSA))
    assert [key.kid for key in keys.keys] == ["rsa-1"]
    assert "2048" in keys.skipped[0]


def test_unknown_types_and_published_secrets_leave_the_rest_usable() -> None:
    keys = parse_key_set(document({"kty": "XYZ"}, OctKey.generate_key(256).as_dict(), RSA))
    assert [key.kid for key in keys.keys] == ["rsa-1"]
    assert len(keys.skipped) == 2


def test_a_shared_key_id_names_no_key_at_all() -> None:
    keys = parse_key_set(document(RSA, public(EC, kid="rsa-1"), public(PS, kid="rsa-1"), ED))
    assert not keys.knows("rsa-1")
    assert keys.find(kid="rsa-1", x5t=None, algorithm="RS256") is None
    assert keys.find(kid=None, x5t=None, algorithm="RS256") is None
    assert keys.find(kid="ed-1", x5t=None, algorithm="EdDSA") is not None
    assert any("rsa-1" in reason for reason in keys.skipped)


def test_a_key_id_shared_with_an_encryption_key_still_names_the_signing_key() -> None:
    assert parse_key_set(document(RSA, public(PS, kid="rsa-1", use="enc"))).knows("rsa-1")


def test_finding_a_key() -> None:
    keys = parse_key_set(document(public(RSA, x5t="one"), public(PS, kid=None, alg="RS256", x5t="two"), EC))
    assert keys.find(kid="rsa-1", x5t="one", algorithm="RS256") is keys.keys[0]
    assert keys.find(kid="rsa-1", x5t="two", algorithm="RS256") is None
    assert keys.find(kid="ec-1", x5t="any", algorithm="ES256") is keys.keys[2]
    assert keys.find(kid="gone", x5t="one", algorithm="RS256") is None
    assert keys.find(kid=None, x5t="two", algorithm="RS256") is keys.keys[1]
    assert keys.find(kid=None, x5t="three", algorithm="RS256") is None
    assert keys.find(kid=None, x5t=None, algorithm="RS256") is None
    assert keys.find(kid=None, x5t=None, algorithm="ES256") is keys.keys[2]
    assert keys.knows(None)
    assert not keys.knows("gone")


def test_the_digest_tells_documents_apart() -> None:
    assert parse_key_set(document(RSA)).digest == parse_key_set(document(RSA)).digest
    assert parse_key_set(document(RSA)).digest != parse_key_set(document(EC)).digest


def test_an_empty_set_is_read_as_empty() -> None:
    assert parse_key_set(b'{"keys": []}').keys == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
        json.dumps({"keys": []}).encode("utf-16"),
    ],
)
def test_what_is_no_key_set(text: bytes) -> None:
    with pytest.raises(KeysetError):
        parse_key_set(text)


def test_a_repeated_member_inside_a_key_spoils_the_document() -> None:
    with pytest.raises(KeysetError, match="repeated"):
        parse_key_set(document(RSA).replace(b'"kid"', b'"kid": "other", "kid"'))
