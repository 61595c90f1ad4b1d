"""An OIDC issuer's keys and tokens, made with joserfc."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

ISSUER = "https://login.test"
AUDIENCE = "api://orders"


class TokenMaker:
    """Signs tokens and writes the key set."""

    def __init__(self, folder: Path) -> None:
        self._rsa = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig", "alg": "RS256"})
        self._ec = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})
        self._foreign = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})
        self.path = folder / "jwks.json"
        self.path.write_text(json.dumps({"keys": [self._rsa.as_dict(private=False), self._ec.as_dict(private=False)]}))

    def token(self, *, alg: str = "ES256", forged: bool = False, **claims: Any) -> str:
        """A token for bob, a developer, valid for an hour; `claims` override, None removes."""
        now = int(time.time())
        payload: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "bob",
            "iat": now,
            "exp": now + 3600,
            "groups": ["dev"],
            "amr": ["pwd", "mfa"],
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        key: Any = self._rsa if alg == "RS256" else self._foreign if forged else self._ec
        return jwt.encode({"alg": alg, "kid": key.kid, "typ": "JWT"}, payload, key)
