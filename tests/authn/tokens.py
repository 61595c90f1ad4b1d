"""Keys, tokens and key sources the identity tests share; tokens are signed by joserfc, never by what is under test."""

from __future__ import annotations

import json
import warnings
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from ztproxy.authn.keyset import KeySet, parse_key_set
from ztproxy.types import Evidence, NetworkContext, Secret

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOW_S: Final = int(NOW.timestamp())
ISSUER: Final = "https://login.example.com"
AUDIENCE: Final = "api://orders"
ACCOUNT: Final = "111122223333"
NETWORK: Final = NetworkContext(listener="edge", peer="192.0.2.7", peer_port=40000)

RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa-1", "alg": "RS256", "use": "sig"})
PS: Final = RSAKey.generate_key(2048, {"kid": "ps-1", "alg": "PS256", "use": "sig"})
EC: Final = ECKey.generate_key("P-256", {"kid": "ec-1", "alg": "ES256", "use": "sig"})
ED: Final = OKPKey.generate_key("Ed25519", {"kid": "ed-1", "alg": "EdDSA", "use": "sig"})

_Result = TypeVar("_Result")


def public(key: Key, **changes: Any) -> dict[str, Any]:
    """The JWK an issuer would publish; a change to None removes the member."""
    members = {**key.as_dict(private=False), **changes}
    return {name: value for name, value in members.items() if value is not None}


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": [public(key) if isinstance(key, Key) else key for key in keys]}).encode()


KEYS: Final = parse_key_set(document(RSA, PS, EC, ED))


def claims(**changes: Any) -> dict[str, Any]:
    """A good set of claims; a change to None removes the claim."""
    good = {"iss": ISSUER, "sub": "ada", "aud": AUDIENCE, "exp": NOW_S + 300, "nbf": NOW_S - 10, "iat": NOW_S - 10}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(
    payload: Mapping[str, Any] | bytes | None = None, key: Key = RSA, header: Mapping[str, Any] | None = None
) -> bytes:
    """A token whose signature is genuine, whatever stands in it."""
    algorithm = str(key.as_dict(private=False)["alg"])
    protected = {"alg": algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
    protected = {name: value for name, value in protected.items() if value is not None}
    content = payload if isinstance(payload, bytes) else json.dumps(payload or claims()).encode()
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # `EdDSA` is an old name, and still the one issuers write
        return jws.serialize_compact(protected, content, key, registry=registry).encode()


def bearer(of: bytes) -> Evidence:
    return Evidence(bearer=Secret(of))


class FixedKeys:
    """A key source that always has what it was given."""

    def __init__(self, keys: KeySet = KEYS) -> None:
        self.keys_now: KeySet | None = keys
        self.asked: list[str | None] = []

    def current(self) -> KeySet | None:
        return self.keys_now

    async def keys(self, kid: str | None) -> KeySet:
        self.asked.append(kid)
        assert self.keys_now is not None
        return self.keys_now


def stepped(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine that must finish at its first step, outside any loop or task."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    coroutine.close()
    raise AssertionError("it suspended")
