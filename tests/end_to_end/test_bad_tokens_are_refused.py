"""A token that is not good in every respect is a 401 that says nothing, and one record that says it all."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable

import pytest

from tests.fakes.watch import WatchedHouse, refused


def unsigned(house: WatchedHouse) -> str:
    """A token that claims to need no signature."""
    _, claims, _ = house.tokens.token().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "ec-1", "typ": "JWT"}).encode())
    return f"{header.rstrip(b'=').decode()}.{claims}."


def spliced(house: WatchedHouse) -> str:
    """The claims of one token under the signature of another."""
    header, _, signature = house.tokens.token().split(".")
    return f"{header}.{house.tokens.token(sub='ada').split('.')[1]}.{signature}"


def bound_to(der: bytes) -> dict[str, str]:
    """A confirmation claim for a certificate. Source: RFC 8705 §3.1."""
    return {"x5t#S256": base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()}


def now() -> int:
    return int(time.time())


BAD: dict[str, tuple[str, Callable[[WatchedHouse], str]]] = {
    "expired": ("authn.token-expired", lambda house: house.tokens.token(exp=now() - 61, iat=now() - 3600)),
    "not-yet-valid": ("authn.token-early", lambda house: house.tokens.token(nbf=now() + 120)),
    "issued-in-the-future": ("authn.token-early", lambda house: house.tokens.token(iat=now() + 120)),
    "forged": ("authn.token-signature", lambda house: house.tokens.token(forged=True)),
    "spliced": ("authn.token-signature", spliced),
    "another-audience": ("authn.token-audience", lambda house: house.tokens.token(aud="api://billing")),
    "no-audience": ("authn.token-claims", lambda house: house.tokens.token(aud=None)),
    "another-issuer": ("authn.token-issuer", lambda house: house.tokens.token(iss="https://evil.test")),
    "no-expiry": ("authn.token-claims", lambda house: house.tokens.token(exp=None)),
    "alg-none": ("authn.token-algorithm", unsigned),
    "garbage": ("authn.token-issuer", lambda _: "this-is-not-a-token-at-all"),
    "garbage-in-three-parts": ("authn.token-issuer", lambda _: "not.a-token-but.three-parts-of-it"),
    "bound-to-another-certificate": (
        "authn.token-binding",
        lambda house: house.tokens.token(cnf=bound_to(house.server.der)),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused(house: WatchedHouse, kind: str) -> None:
    code, make = BAD[kind]
    token = make(house)
    with house.expecting(refused(code)):
        answer = house.ask(token=token)
    assert answer.status == 401
    assert answer.value("www-authenticate") == 'Bearer realm="ztproxy", error="invalid_token"'
    assert answer.json["detail"] == "authentication is required, or the credential was not accepted"
    assert "code" not in answer.json  # a stranger is not told which defence held


def test_a_token_of_more_than_16_kib_is_not_even_read(house: WatchedHouse) -> None:
    token = house.tokens.token(padding="x" * 12_250)
    assert 16 * 1024 < len(token) < 17 * 1024
    with house.expecting(refused("protocol.head-size")):
        answer = house.ask(token=token)
    assert answer.status == 431


def test_a_request_without_a_token_is_refused(house: WatchedHouse) -> None:
    with house.expecting(refused("authn.missing")):
        answer = house.ask(token="")
    assert (answer.status, answer.value("www-authenticate")) == (401, 'Bearer realm="ztproxy"')


def test_another_scheme_is_refused(house: WatchedHouse) -> None:
    with house.expecting(refused("authn.missing")):
        answer = house.ask("GET /orders/42", "Authorization: Basic Ym9iOmJvYi1jYW5hcnktcGFzc3dvcmQ=", token="")
    assert answer.status == 401


def test_a_token_bound_to_this_certificate_is_good(house: WatchedHouse) -> None:
    with house.expecting("access.decided allowed", "access.ended completed", forwarded=1):
        answer = house.ask(token=house.tokens.token(cnf=bound_to(house.bob.der)))
    assert answer.status == 200


def test_a_refusal_leaves_the_connection_to_the_next_request(house: WatchedHouse) -> None:
    connection = house.connect()
    with house.expecting(
        refused("authn.token-signature"), "access.decided allowed", "access.ended completed", forwarded=1
    ):
        refusal = connection.send(house.request(token=house.tokens.token(forged=True))).answer()
        answer = connection.send(house.request()).answer()
    connection.close()
    assert (refusal.status, answer.status) == (401, 200)
