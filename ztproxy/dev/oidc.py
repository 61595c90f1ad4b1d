"""A small OpenID Connect issuer on loopback, with three people in it.

It serves discovery, its keys (one RS256 and one ES256 at a time; those before the last rotation stay published) and a
token endpoint. Grants are a table, so that a sign-in page and a device flow join it without touching what is here.
The one grant so far, `PERSONA_GRANT`, mints a token for a person by name, so that `ztproxy curl` needs no browser. It
asks for the client secret, which only the owner of the demo's state folder can read.

Tests use the same issuer as their fake: `slow_s`, `fail_status`, `garbage` and `redirect_to` are switches to set while
it runs, `calls` counts what was asked, and `mint` makes tokens of any shape without going over the network.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from ztproxy.dev.loopback import LOOPBACK, serving
from ztproxy.dev.state import PERSONA_GRANT
from ztproxy.types import Secret

CLIENT_ID: Final = "ztproxy-demo"
AUDIENCE: Final = "api://orders"
TOKEN_LIFE_S: Final = 300
KEY_SETS_PUBLISHED: Final = 2
MAX_FORM_BYTES: Final = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """One person the issuer knows."""

    name: str
    role: str
    groups: tuple[str, ...]
    amr: tuple[str, ...]

    @property
    def email(self) -> str:
        """The address tokens and certificates carry."""
        return f"{self.name}@example.com"


PERSONAS: Final[Mapping[str, Persona]] = MappingProxyType(
    {
        person.name: person
        for person in (
            Persona(name="ada", role="admin", groups=("admin",), amr=("pwd", "otp", "mfa")),
            Persona(name="bob", role="dev", groups=("dev",), amr=("pwd", "otp", "mfa")),
            Persona(name="eve", role="contractor", groups=("contractor",), amr=("pwd",)),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """One generation of keys."""

    rs256: tuple[str, rsa.RSAPrivateKey]
    es256: tuple[str, ec.EllipticCurvePrivateKey]

    @classmethod
    def make(cls) -> SigningKeys:
        """New keys under new key ids."""
        return cls(
            rs256=(secrets.token_hex(8), rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            es256=(secrets.token_hex(8), ec.generate_private_key(ec.SECP256R1())),
        )

    def by_algorithm(self) -> Mapping[str, tuple[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]]:
        """Key id and private key for each algorithm."""
        return {"RS256": self.rs256, "ES256": self.es256}

    def public(self) -> list[dict[str, Any]]:
        """Both as JWKs."""
        rs_id, rs_key = self.rs256
        es_id, es_key = self.es256
        return [
            {**RSAAlgorithm.to_jwk(rs_key.public_key(), as_dict=True), "kid": rs_id, "use": "sig", "alg": "RS256"},
            {**ECAlgorithm.to_jwk(es_key.public_key(), as_dict=True), "kid": es_id, "use": "sig", "alg": "ES256"},
        ]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Form = Mapping[str, str]


class OidcIssuer:
    """The issuer; `url` is its issuer identifier, and unless given the address it is served at."""

    def __init__(self, url: str = "", *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.url = url
        self.client_secret: Final = Secret(secrets.token_urlsafe(32).encode())
        self.calls: Counter[str] = Counter()
        """Requests by path, the failed ones included."""
        self.slow_s = 0.0
        self.fail_status: int | None = None
        self.garbage = False
        self.redirect_to: str | None = None
        self._now = now
        self._keys = [SigningKeys.make()]
        self._grants: dict[str, Callable[[Form], str]] = {PERSONA_GRANT: self._persona_token}

    @property
    def jwks(self) -> dict[str, Any]:
        """The published keys, newest first."""
        return {"keys": [key for generation in self._keys for key in generation.public()]}

    @property
    def jwks_url(self) -> str:
        """Where the keys are served."""
        return f"{self.url}/jwks.json"

    @property
    def token_url(self) -> str:
        """Where tokens are minted."""
        return f"{self.url}/token"

    def rotate(self) -> None:
        """Sign with new keys from now on; the keys of the previous generation stay published, older ones go."""
        self._keys = [SigningKeys.make(), *self._keys][:KEY_SETS_PUBLISHED]

    def mint(
        self,
        persona: str,
        *,
        audience: str = AUDIENCE,
        algorithm: str = "RS256",
        life_s: int = TOKEN_LIFE_S,
        claims: Mapping[str, Any] = MappingProxyType({}),
        headers: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """A token for this person; `claims` and `headers` are laid over the usual ones, and None takes one out.

        Raises: `KeyError` for a person or an algorithm the issuer does not have.
        """
        person = PERSONAS[persona]
        kid, key = self._keys[0].by_algorithm()[algorithm]
        at = int(self._now().timestamp())
        usual = {
            "iss": self.url,
            "sub": f"dev-{person.name}",
            "aud": audience,
            "iat": at,
            "nbf": at,
            "exp": at + life_s,
            "auth_time": at,
            "jti": secrets.token_hex(16),
            "email": person.email,
            "email_verified": True,
            "groups": list(person.groups),
            "amr": list(person.amr),
        }
        body = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(body, key, algorithm=algorithm, headers={"kid": kid, **headers})

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[None]:
        """Answer on a loopback port while the context lasts."""
        async with serving(self.application(), port) as bound:
            self.url = self.url or f"http://{LOOPBACK}:{bound}"
            yield

    def application(self) -> web.Application:
        """The aiohttp application to serve."""
        app = web.Application(client_max_size=MAX_FORM_BYTES, middlewares=[self._misbehave])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/jwks.json", self._jwks),
                web.post("/token", self._token),
            ]
        )
        return app

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.calls[request.path] += 1
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.fail_status is not None:
            return web.Response(status=self.fail_status, text="the issuer is out of order")
        if self.redirect_to is not None:
            return web.Response(status=302, headers={"Location": self.redirect_to})
        if self.garbage:
            return web.Response(body=b'{"keys": [{"kty": \xff', content_type="application/json")
        return await handler(request)

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": self.jwks_url,
                "token_endpoint": self.token_url,
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "grant_types_supported": list(self._grants),
                "claims_supported": ["sub", "email", "email_verified", "groups", "amr", "auth_time"],
            }
        )

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self.jwks, headers={"Cache-Control": "max-age=300"})

    async def _token(self, request: web.Request) -> web.Response:
        if not self._is_client(request.headers.get("Authorization", "")):
            return _oauth_error(401, "invalid_client", {"WWW-Authenticate": 'Basic realm="ztproxy dev"'})
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        grant = self._grants.get(form.get("grant_type", ""))
        if grant is None:
            return _oauth_error(400, "unsupported_grant_type")
        try:
            token = grant(form)
        except KeyError:
            return _oauth_error(400, "invalid_grant")
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_S},
            headers={"Cache-Control": "no-store"},
        )

    def _persona_token(self, form: Form) -> str:
        return self.mint(form["persona"], audience=form.get("audience", AUDIENCE))

    def _is_client(self, authorization: str) -> bool:
        """Whether this is our client's Basic credential. Source: RFC 6749 §2.3.1."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            claimed = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            return False
        client, _, password = claimed.partition(":")
        known = hmac.compare_digest(unquote_plus(password).encode(), self.client_secret.reveal())
        return scheme.lower() == "basic" and client == CLIENT_ID and known


def _oauth_error(status: int, error: str, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """Source: RFC 6749 §5.2."""
    return web.Response(
        status=status, text=json.dumps({"error": error}), content_type="application/json", headers=headers
    )
