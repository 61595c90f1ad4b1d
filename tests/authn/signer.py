"""Requests signed by botocore, faults put into them, and the answer of the authenticator to either."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ztproxy.authn.sigv4 import AccessKey, SigV4Authenticator
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity, NetworkContext, Secret, SignedRequest

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NETWORK = NetworkContext(listener="edge", peer="192.0.2.1", peer_port=40000)
SECRET = "tests/SECRET+key0123456789"
ARN = "arn:aws:iam::111122223333:user/ci"
EMPTY = hashlib.sha256(b"").hexdigest()
KEY = AccessKey(
    access_key_id="AKIDEXAMPLE1",
    secret=Secret(SECRET.encode()),
    user="ci",
    arn=ARN,
    account="111122223333",
    groups=("dev", "ops"),
    tags={"Team": "orders"},
)
PLAIN_KEY = AccessKey(
    access_key_id="AKIDEXAMPLE2",
    secret=Secret(b"other"),
    user="batch",
    arn="arn:aws:iam::111122223333:user/batch",
    account="111122223333",
    user_id="AIDAEXAMPLE",
)
REGIONS, SERVICES = frozenset({"eu-west-1"}), frozenset({"execute-api", "s3", "sts"})
Headers = tuple[tuple[bytes, bytes], ...]


def authenticator(skew_s: int = 300) -> SigV4Authenticator:
    return SigV4Authenticator([KEY, PLAIN_KEY], REGIONS, SERVICES, skew_s)


def judged(
    request: SignedRequest | None, *, by: SigV4Authenticator | None = None, now: datetime = NOW
) -> Identity | Unauthenticated:
    """The answer of one step: an authenticator that waited would yield instead of returning."""
    step = (by or authenticator()).identify(Evidence(signed=request), NETWORK, now)
    try:
        step.send(None)
    except StopIteration as finished:
        identity = finished.value
        assert isinstance(identity, Identity)
        return identity
    except Unauthenticated as refused:
        return refused
    raise AssertionError("suspended")


def accepted(request: SignedRequest, **how: SigV4Authenticator | datetime) -> Identity:
    answer = judged(request, **how)  # type: ignore[arg-type]
    assert isinstance(answer, Identity), answer
    return answer


def code(request: SignedRequest | None, **how: SigV4Authenticator | datetime) -> str:
    answer = judged(request, **how)  # type: ignore[arg-type]
    assert isinstance(answer, Unauthenticated), answer
    return answer.code


def signed(
    target: str = "/orders/42",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    body_sha256: str | None = "",
    at: datetime = NOW,
    service: str = "execute-api",
    region: str = "eu-west-1",
    credentials: Credentials | None = None,
) -> SignedRequest:
    """A request as botocore signs it."""
    request = AWSRequest(method=method, url=f"http://api.example.com{target}", data=body)
    request.headers["Host"] = "api.example.com"
    for name, value in (headers or {}).items():
        request.headers[name] = value
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    with patch("botocore.auth.get_current_datetime", return_value=at):
        signer(credentials or Credentials(KEY.access_key_id, SECRET), service, region).add_auth(request)
    return SignedRequest(
        method=method,
        raw_target=target.encode(),
        raw_headers=tuple((name.encode(), value.encode()) for name, value in request.headers.items()),
        body_sha256=hashlib.sha256(body).hexdigest() if body_sha256 == "" else body_sha256,
    )


def changed(
    request: SignedRequest,
    *,
    target: bytes | None = None,
    headers: Headers | None = None,
    body_sha256: str | None = "",
) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        raw_target=request.raw_target if target is None else target,
        raw_headers=request.raw_headers if headers is None else headers,
        body_sha256=request.body_sha256 if body_sha256 == "" else body_sha256,
    )


def replaced(request: SignedRequest, name: str, old: bytes, new: bytes) -> SignedRequest:
    """The request with `old` replaced inside one of its fields."""
    assert any(field == name.encode() and old in value for field, value in request.raw_headers)
    headers = tuple(
        (field, value.replace(old, new) if field == name.encode() else value) for field, value in request.raw_headers
    )
    return changed(request, headers=headers)
