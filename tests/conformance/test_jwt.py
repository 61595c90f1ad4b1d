"""JWS, JWK set and JWT corpora: our own cases and, when `ZTPROXY_VECTORS` is set, every third-party one.

HMAC is no algorithm of this house: an issuer's key set never yields a symmetric key. Corpora check the compact
serialisation with HMAC too, so the `jws` and `jwks` layers here lend the reader symmetric keys of the test's own;
`test_published_secrets_are_never_keys` shows that the product takes none of them.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from jwt.algorithms import HMACAlgorithm

from ztproxy.authn.claims import ClaimMapping, Federation, token_identity
from ztproxy.authn.jose import decode_base64url, read_compact
from ztproxy.authn.jwt import TOKEN_TYPES, TokenRules, verify, verify_signature
from ztproxy.authn.keyset import BoundAlgorithm, KeySet, VerificationKey, parse_key_set
from ztproxy.errors import Unauthenticated

FOLDERS = [Path(__file__).parent.parent / "vectors" / "jwt"]
if "ZTPROXY_VECTORS" in os.environ:
    FOLDERS.append(Path(os.environ["ZTPROXY_VECTORS"]) / "jwt")
HMAC = {
    "HS256": (HMACAlgorithm(HMACAlgorithm.SHA256), 32),
    "HS384": (HMACAlgorithm(HMACAlgorithm.SHA384), 48),
    "HS512": (HMACAlgorithm(HMACAlgorithm.SHA512), 64),
}


@cache
def corpus(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


CASES = [
    pytest.param(file, case, id=f"{file.parent.parent.name}:{case['id']}")
    for folder in FOLDERS
    for file in sorted(folder.glob("*.json"))
    for case in corpus(file)["cases"]
]


def published(file: Path, case: dict[str, Any]) -> list[dict[str, Any]]:
    key = corpus(file)["keys"][case["key"]]
    keys: list[dict[str, Any]] = key.get("keys", [key])
    return keys


def lent(jwk: dict[str, Any]) -> VerificationKey | None:
    """A symmetric key with one algorithm and no less than its hash's length (RFC 7518 §3.2); not the product's."""
    algorithm, least = HMAC.get(jwk.get("alg", ""), (None, 0))
    try:
        secret = decode_base64url(jwk.get("k", "").encode())
    except ValueError:
        return None
    if algorithm is None or jwk.get("use", "sig") != "sig" or len(secret) < least:
        return None
    verifiers = MappingProxyType({jwk["alg"]: BoundAlgorithm(algorithm, secret)})
    return VerificationKey(kid=jwk.get("kid"), verifiers=verifiers)


def key_set(keys: list[dict[str, Any]]) -> KeySet:
    parsed = parse_key_set(json.dumps({"keys": keys}).encode())
    secrets = [key for jwk in keys if jwk["kty"] == "oct" and (key := lent(jwk)) is not None]
    names = [jwk.get("kid") for jwk in keys]
    usable = tuple(key for key in secrets if names.count(key.kid) == 1)
    by_kid = {**parsed.by_kid, **{key.kid: key for key in usable if key.kid is not None}}
    return KeySet(digest="", keys=parsed.keys + usable, by_kid=MappingProxyType(by_kid))


def judge(file: Path, case: dict[str, Any]) -> None:
    token, keys = case["token"].encode(), published(file, case)
    if case["layer"] != "jwt":
        allowed = case.get("allowed_algs") or corpus(file)["config"]["allowed_algs"]
        return verify_signature(read_compact(token), key_set(keys), frozenset(allowed))
    config = {**corpus(file)["config"], **case.get("config", {})}
    required = config.get("require_typ")
    rules = TokenRules(
        issuer=config["issuer"],
        audiences=frozenset({config["audience"]}),
        algorithms=frozenset(config["allowed_algs"]),
        leeway_s=config["leeway_seconds"],
        types=TOKEN_TYPES if required is None else frozenset({required}),
        type_required=required is not None,
    )
    domain = config.get("allowed_email_domain")
    now = datetime.fromtimestamp(config["now"], UTC)
    # The product alone: its own reading of the key set, its own rules.
    claims = verify(read_compact(token), rules, parse_key_set(json.dumps({"keys": keys}).encode()), now)
    token_identity(
        claims,
        ClaimMapping(email_domains=None if domain is None else frozenset({domain})),
        Federation.of(name="idp", issuer=config["issuer"], partition="aws", account="111122223333"),
        leeway_s=rules.leeway_s,
        now=now,
    )
    return None


@pytest.mark.parametrize(("file", "case"), CASES)
def test_case(file: Path, case: dict[str, Any]) -> None:
    code = ""
    try:
        judge(file, case)
    except Unauthenticated as error:
        code = error.code
    assert code == "" or code.startswith("authn.token-")
    assert case["expected"] in {"reject" if code else "accept", "either"}, case.get("why", "")


def test_published_secrets_are_never_keys() -> None:
    for file in {param.values[0] for param in CASES}:
        assert isinstance(file, Path)
        for keys in corpus(file)["keys"].values():
            listed = keys.get("keys", [keys])
            parsed = parse_key_set(json.dumps({"keys": listed}).encode())
            for key in parsed.keys:
                assert not any(name.startswith("HS") for name in key.verifiers)
            assert len(parsed.keys) <= sum(jwk["kty"] != "oct" for jwk in listed)


def test_our_own_corpus_is_here() -> None:
    own = [
        param for param in CASES if str(param.id).startswith("vectors:jwt/") or str(param.id).startswith("vectors:jws/")
    ]
    assert len(own) > 60
