"""Requests signed by botocore, as raw bytes, so that a test can change them on the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.proxy import ACCESS_KEY, SECRET_KEY


def signed(
    line: str = "GET /orders/42",
    body: bytes = b"",
    *,
    key_id: str = ACCESS_KEY,
    secret: str = SECRET_KEY,
    service: str = "execute-api",
    region: str = "eu-west-1",
    headers: dict[str, str] | None = None,
    late: timedelta = timedelta(),
) -> bytes:
    """The request as botocore signs it; `late` is how long ago it did."""
    method, _, target = line.partition(" ")
    request = AWSRequest(method, f"https://localhost{target}", headers=headers or {}, data=body)
    at = datetime.now(UTC) - late
    with patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(Credentials(key_id, secret), service, region).add_auth(request)
    assert request.headers["X-Amz-Date"] == f"{at:%Y%m%dT%H%M%SZ}"
    lines = [f"{line} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in request.headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def signature_of(raw: bytes) -> str:
    """The signature that a signed request carries."""
    return raw.partition(b"Signature=")[2].partition(b"\r\n")[0].decode()
