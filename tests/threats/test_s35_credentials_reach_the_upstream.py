"""S35: what a caller proves itself with ends at the proxy; the upstream reads who it is, never how it proved it."""

from __future__ import annotations

import hashlib

import pytest

from tests.fakes.proxy import ACCESS_KEY
from tests.fakes.signing import signature_of, signed
from tests.fakes.watch import WatchedHouse, served


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_ends_here(house: WatchedHouse, name: str, scheme: str) -> None:
    token = house.tokens.token()
    with house.expecting(*served(), forwarded=1):
        answer = house.ask("POST /orders", f"{name}: {scheme} {token}", token="", body=b"x")
    assert answer.status == 200
    head = house.upstream.requests[-2].head
    for part in token.split("."):
        assert part.encode() not in head
    assert b"authorization" not in head.lower()
    assert b"bearer" not in head.lower()


@pytest.mark.parametrize("body", [b"", b"order"])
def test_a_signature_ends_here(house: WatchedHouse, body: bytes) -> None:
    raw = signed("POST /orders", body, headers={"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()})
    house.keep_secret(signature_of(raw))
    with house.expecting(*served(), forwarded=1):
        assert house.ask_on(house.connect(), raw).status == 200
    head = house.upstream.requests[-2].head
    assert signature_of(raw).encode() not in head
    assert ACCESS_KEY.encode() not in head
    assert b"x-amz-" not in head.lower()


@pytest.mark.parametrize(
    "field",
    [
        "Proxy-Authorization: Basic Ym9iOmJvYg==",
        "X-Amz-Security-Token: a-session-token-of-the-callers",
        "X_Amz_Security_Token: a-session-token-of-the-callers",
        "X-Forwarded-Access-Token: a-token-of-the-callers",
        "X-Amzn-Oidc-Accesstoken: a-token-of-the-callers",
        "Proxy_Authorization: Basic Ym9iOmJvYg==",
    ],
)
def test_what_else_carries_a_credential_ends_here(house: WatchedHouse, field: str) -> None:
    with house.expecting(*served(), forwarded=1):
        assert house.ask("GET /orders", field).status == 200
    assert field.partition(": ")[2].encode() not in house.upstream.requests[-2].head


def test_what_belongs_to_the_upstream_goes_on(house: WatchedHouse) -> None:
    """A cookie or key of the application's own is none of ours."""
    with house.expecting(*served(), forwarded=1):
        assert house.ask("GET /orders", "Cookie: app=1; lang=de", "X-Api-Key: of-the-application").status == 200
    request = house.upstream.requests[-2]
    assert request.values(b"cookie") == [b"app=1; lang=de"]
    assert request.values(b"x-api-key") == [b"of-the-application"]
