"""Writes `cases.json`: tokens and what must become of them, signed by joserfc, which also says which signatures hold.

Run: `python tests/vectors/jwt/make.py`. The private keys are thrown away; a new run makes new keys and the same cases.
Layers: `jws` (the signature with a JWK set), `jwt` (everything, at `config.now`). A case's `config`
overrides the file's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

NOW: Final = 1_767_225_600
ISSUER: Final = "https://login.example.com"
CONFIG: Final = {
    "now": NOW,
    "leeway_seconds": 60,
    "issuer": ISSUER,
    "audience": "api://orders",
    "allowed_algs": ["RS256", "PS256", "ES256", "EdDSA"],
}
KEYS: Final[dict[str, Key]] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss", "use": "sig", "alg": "PS256"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec", "use": "sig", "alg": "ES256"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig", "alg": "EdDSA"}),
}
GOOD: Final = {"iss": ISSUER, "sub": "ada", "aud": "api://orders", "exp": NOW + 300, "iat": NOW - 5}


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def sign(payload: bytes, algorithm: str = "RS256", header: dict[str, Any] | None = None) -> str:
    key = KEYS[algorithm]
    protected = {"alg": algorithm, "kid": key.kid, **(header or {})}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jws.serialize_compact(protected, payload, key, registry=registry)


def claims(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not None}).encode()


def holds(token: str, algorithm: str) -> bool:
    """What the oracle says of the signature alone."""
    try:
        jws.deserialize_compact(token.encode(), KEYS[algorithm], registry=jws.JWSRegistry(algorithms=[algorithm]))
    except (JoseError, ValueError):
        return False
    return True


def jws_cases() -> list[dict[str, Any]]:
    cases = []
    for algorithm in KEYS:
        token = sign(b"payload", algorithm)
        head, body, signature = token.split(".")
        octets = bytearray(base64.urlsafe_b64decode(signature + "=="))
        octets[len(octets) // 2] ^= 1
        variants = {
            "good": token,
            "payload-changed": f"{head}.{b64(b'Payload')}.{signature}",
            "signature-bit": f"{head}.{body}.{b64(bytes(octets))}",
            "signature-short": f"{head}.{body}.{b64(bytes(octets[:-1]))}",
            "signature-long": f"{head}.{body}.{b64(bytes(octets) + b'0')}",
            "signature-empty": f"{head}.{body}.",
            "signature-zero": f"{head}.{body}.{b64(bytes(len(octets)))}",
        }
        for name, text in variants.items():
            expected = "accept" if holds(text, algorithm) else "reject"
            assert (expected == "accept") == (name == "good"), (algorithm, name)
            cases.append({"id": f"jws/{algorithm}/{name}", "layer": "jws", "token": text, "expected": expected})
    return cases


def jwt_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []

    def add(name: str, token: str, expected: str = "reject", **config: Any) -> None:
        cases.append({"id": f"jwt/{name}", "layer": "jwt", "token": token, "expected": expected, "config": config})

    for algorithm in KEYS:
        add(f"good-{algorithm}", sign(claims(), algorithm), "accept")
    good: dict[str, dict[str, Any]] = {
        "aud-list": {"aud": ["other", "api://orders"]},
        "exp-in-leeway": {"exp": NOW - 59},
        "nbf-in-leeway": {"nbf": NOW + 60},
        "sub-unicode": {"sub": "Zoë"},
    }
    for name, changes in good.items():
        add(f"good-{name}", sign(claims(**changes)), "accept")
    bad: dict[str, dict[str, Any]] = {
        "no-iss": {"iss": None},
        "no-aud": {"aud": None},
        "no-exp": {"exp": None},
        "no-sub": {"sub": None},
        "iss-slash": {"iss": ISSUER + "/"},
        "aud-prefix": {"aud": "api://orders2"},
        "exp-past": {"exp": NOW - 60},
        "exp-milliseconds": {"exp": (NOW + 300) * 1000},
        "exp-text": {"exp": str(NOW + 300)},
        "exp-true": {"exp": True},
        "nbf-ahead": {"nbf": NOW + 61},
        "iat-ahead": {"iat": NOW + 61},
        "sub-newline": {"sub": "ada\n"},
        "sub-zero-width": {"sub": "a\u200bda"},
    }
    for name, changes in bad.items():
        add(name, sign(claims(**changes)))
    add("repeated-sub", sign(claims().replace(b'"sub"', b'"sub": "eve", "sub"')))
    add("repeated-nested", sign(claims().replace(b"{", b'{"act": {"sub": "a", "sub": "b"}, ', 1)))
    add("utf-16", sign(claims().decode().encode("utf-16")))
    add("deep", sign(b'{"a":' * 1500 + b"1" + b"}" * 1500))
    add("nan", sign(claims().replace(str(NOW + 300).encode(), b"NaN")))
    headers: dict[str, dict[str, Any]] = {
        "jku": {"jku": "http://127.0.0.1:9/jwks"},
        "jwk": {"jwk": KEYS["ES256"].as_dict(private=False)},
        "crit": {"crit": ["x"], "x": 1},
        "typ-dpop": {"typ": "dpop+jwt"},
        "typ-other-service": {"typ": "ztproxy-identity+jwt"},
    }
    for name, header in headers.items():
        add(f"header-{name}", _signed_by_hand(header))
    add("typ-at-jwt", sign(claims(), header={"typ": "at+jwt"}), "accept", require_typ="at+jwt")
    add("typ-missing", sign(claims()), require_typ="at+jwt")
    add("alg-not-listed", sign(claims(), "ES256"), allowed_algs=["RS256"])
    add("key-of-another-kind", _signed_by_hand({"kid": "ec"}))
    unsigned = b64(b'{"alg":"none"}')
    add("alg-none", f"{unsigned}.{b64(claims())}.")
    public = json.dumps(KEYS["RS256"].as_dict(private=False)).encode()
    head = b64(b'{"alg":"HS256","kid":"rsa"}') + "." + b64(claims())
    add("confusion", head + "." + b64(hashlib.sha256(public + head.encode()).digest()))
    return cases


def _signed_by_hand(header: dict[str, Any]) -> str:
    """A header no careful library would sign."""
    protected = {"alg": "RS256", "kid": "rsa", **header}
    text = f"{b64(json.dumps(protected).encode())}.{b64(claims())}"
    model = jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")
    return f"{text}.{b64(model.sign(text.encode(), KEYS['RS256']))}"


def main() -> None:
    warnings.simplefilter("ignore")
    content = {
        "config": CONFIG,
        "keys": {"all": {"keys": [key.as_dict(private=False) for key in KEYS.values()]}},
        "cases": [{"key": "all", **case} for case in jws_cases() + jwt_cases()],
    }
    Path(__file__).with_name("cases.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
