"""The issuer's tokens as an independent library reads them, its endpoints, and its switches for tests."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError
from joserfc.jwk import KeySet

from ztproxy.dev.loopback import LOOPBACK
from ztproxy.dev.oidc import CLIENT_ID, PERSONAS, TOKEN_LIFE_S, OidcIssuer
from ztproxy.dev.state import PERSONA_GRANT

URL = "https://login.example.com"
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def issuer() -> OidcIssuer:
    return OidcIssuer(URL, now=lambda: AT)


def read(token: str, keys: Mapping[str, Any], algorithm: str = "RS256") -> jwt.Token:
    return jwt.decode(token, KeySet.import_key_set(keys), algorithms=[algorithm])  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("persona", PERSONAS)
def test_a_token_says_who_the_person_is(persona: str, algorithm: str) -> None:
    made = issuer()
    token = read(made.mint(persona, algorithm=algorithm), made.jwks, algorithm)
    at = int(AT.timestamp())
    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": URL,
        "sub": f"dev-{persona}",
        "aud": "api://orders",
        "iat": at,
        "nbf": at,
        "exp": at + TOKEN_LIFE_S,
        "auth_time": at,
        "email": f"{persona}@example.com",
        "email_verified": True,
        "groups": list(PERSONAS[persona].groups),
        "amr": list(PERSONAS[persona].amr),
    }
    assert set(token.header) == {"alg", "kid", "typ"}


def test_the_three_people() -> None:
    assert {name: (person.role, person.groups) for name, person in PERSONAS.items()} == {
        "ada": ("admin", ("admin",)),
        "bob": ("dev", ("dev",)),
        "eve": ("contractor", ("contractor",)),
    }


def test_claims_and_headers_can_be_laid_over_or_taken_out() -> None:
    made = issuer()
    text = made.mint(
        "bob", audience="api://other", life_s=-60, claims={"groups": None, "tenant": "t1"}, headers={"typ": "at+jwt"}
    )
    token = read(text, made.jwks)
    assert token.header["typ"] == "at+jwt"
    assert "groups" not in token.claims
    assert (token.claims["tenant"], token.claims["aud"]) == ("t1", "api://other")
    assert token.claims["exp"] == int(AT.timestamp()) - 60


def test_two_tokens_are_never_the_same() -> None:
    made = issuer()
    assert made.mint("bob") != made.mint("bob")


@pytest.mark.parametrize(("persona", "algorithm"), [("mallory", "RS256"), ("bob", "none"), ("bob", "HS256")])
def test_what_the_issuer_does_not_have_it_does_not_mint(persona: str, algorithm: str) -> None:
    with pytest.raises(KeyError):
        issuer().mint(persona, algorithm=algorithm)


def test_rotation_keeps_the_previous_keys_published_once() -> None:
    made = issuer()
    old = made.mint("bob")
    made.rotate()
    new = made.mint("bob")
    assert read(old, made.jwks).claims["sub"] == read(new, made.jwks).claims["sub"] == "dev-bob"
    assert len({key["kid"] for key in made.jwks["keys"]}) == 4
    made.rotate()
    assert read(new, made.jwks)
    with pytest.raises(InvalidKeyIdError):
        read(old, made.jwks)


def test_published_keys_hold_nothing_private() -> None:
    for key in issuer().jwks["keys"]:
        assert set(key) <= {"kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y"}


def test_another_issuers_token_does_not_verify() -> None:
    ours, theirs = issuer(), issuer()
    kid = ours.jwks["keys"][0]["kid"]
    with pytest.raises(BadSignatureError):
        read(theirs.mint("bob", headers={"kid": kid}), ours.jwks)


Answer = tuple[int, Mapping[str, str], bytes]
Get = Callable[..., Answer]


def served(made: OidcIssuer, client: Callable[[Get], None]) -> None:
    """Run a blocking client against the served issuer."""

    def ask(port: int) -> None:
        def get(method: str, path: str, body: str | None = None, **headers: str) -> Answer:
            connection = HTTPConnection(LOOPBACK, port, timeout=5)
            try:
                connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()
            finally:
                connection.close()

        client(get)

    async def run() -> None:
        async with made.serving():
            await asyncio.to_thread(ask, int(made.url.rpartition(":")[2]))

    asyncio.run(run())


def basic(client: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()


def test_discovery_leads_to_keys_that_verify_a_token_from_the_token_endpoint() -> None:
    made = OidcIssuer()
    secret = made.client_secret.reveal().decode()

    def client(get: Get) -> None:
        status, _, body = get("GET", "/.well-known/openid-configuration")
        assert status == 200
        found = json.loads(body)
        assert found["issuer"] == made.url
        assert found["jwks_uri"].startswith(made.url)
        _, _, keys = get("GET", found["jwks_uri"].removeprefix(made.url))
        form = urlencode({"grant_type": PERSONA_GRANT, "persona": "ada", "audience": "api://x"})
        status, headers, body = get(
            "POST",
            found["token_endpoint"].removeprefix(made.url),
            form,
            Authorization=basic(CLIENT_ID, secret),
            Content_Type="application/x-www-form-urlencoded",
        )
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        answer = json.loads(body)
        assert (answer["token_type"], answer["expires_in"]) == ("Bearer", TOKEN_LIFE_S)
        claims = read(answer["access_token"], json.loads(keys)).claims
        assert (claims["iss"], claims["sub"], claims["aud"]) == (made.url, "dev-ada", "api://x")
        assert abs(claims["iat"] - time.time()) < 60

    served(made, client)
    assert made.calls == {"/.well-known/openid-configuration": 1, "/jwks.json": 1, "/token": 1}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        basic(CLIENT_ID, "guess"),
        basic(CLIENT_ID, "gu\xe9ss"),
        basic("another", "SECRET"),
        "Bearer " + basic(CLIENT_ID, "SECRET").removeprefix("Basic "),
    ],
    ids=["none", "bare", "not base64", "not utf-8", "wrong", "wrong non-ascii", "other client", "other scheme"],
)
def test_only_the_demos_own_client_gets_tokens(authorization: str) -> None:
    made = OidcIssuer()
    if authorization and "SECRET" in base64.b64decode(authorization.partition(" ")[2] + "==").decode(errors="replace"):
        encoded = authorization.partition(" ")[2]
        text = base64.b64decode(encoded).decode().replace("SECRET", made.client_secret.reveal().decode())
        authorization = f"{authorization.partition(' ')[0]} {base64.b64encode(text.encode()).decode()}"

    def client(get: Get) -> None:
        form = urlencode({"grant_type": PERSONA_GRANT, "persona": "ada"})
        status, headers, body = get(
            "POST",
            "/token",
            form,
            Authorization=authorization,
            Content_Type="application/x-www-form-urlencoded",
        )
        assert (status, json.loads(body)) == (401, {"error": "invalid_client"})
        assert headers["WWW-Authenticate"].startswith("Basic")

    served(made, client)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "bob"}, "unsupported_grant_type"),
        ({"grant_type": PERSONA_GRANT}, "invalid_grant"),
        ({"grant_type": PERSONA_GRANT, "persona": "mallory"}, "invalid_grant"),
    ],
    ids=["empty", "other grant", "nobody", "stranger"],
)
def test_a_grant_that_cannot_be_given(form: dict[str, str], error: str) -> None:
    made = OidcIssuer()

    def client(get: Get) -> None:
        status, _, body = get(
            "POST",
            "/token",
            urlencode(form),
            Authorization=basic(CLIENT_ID, made.client_secret.reveal().decode()),
            Content_Type="application/x-www-form-urlencoded",
        )
        assert (status, json.loads(body)) == (400, {"error": error})

    served(made, client)


def test_switches_work_while_it_runs() -> None:
    made = OidcIssuer()

    def client(get: Get) -> None:
        made.fail_status = 500
        assert get("GET", "/jwks.json")[0] == 500
        made.fail_status, made.redirect_to = None, "http://127.0.0.1:9/elsewhere"
        status, headers, _ = get("GET", "/jwks.json")
        assert (status, headers["Location"]) == (302, "http://127.0.0.1:9/elsewhere")
        made.redirect_to, made.garbage = None, True
        status, headers, body = get("GET", "/jwks.json")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        with pytest.raises(ValueError):
            json.loads(body)
        made.garbage, made.slow_s = False, 0.2
        began = time.monotonic()
        assert get("GET", "/jwks.json")[0] == 200
        assert time.monotonic() - began >= 0.2

    served(made, client)
    assert made.calls["/jwks.json"] == 4


def test_a_given_url_stays_whatever_the_port() -> None:
    made = issuer()

    async def run() -> None:
        async with made.serving():
            assert (made.url, made.jwks_url) == (URL, f"{URL}/jwks.json")

    asyncio.run(run())


def test_the_client_secret_does_not_show() -> None:
    made = OidcIssuer()
    assert made.client_secret.reveal().decode() not in repr(vars(made))
