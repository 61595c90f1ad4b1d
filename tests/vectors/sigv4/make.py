"""Writes `botocore.json`: requests signed by botocore with a fixed clock, and what botocore made canonical of them.

And `reject.json`: headers that are wrong, and AWS's documented answers to them; botocore only signs.

Run from the repository: `python tests/vectors/sigv4/make.py`. The result depends on nothing but this file and
botocore's rules, so running it again changes nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE2", "own/vectors+secretKEYexample0123456789ab", "eu-west-1"
HOST = "api.example.com"
JSON_BODY = '{"item": 7}'

# name, method, target, service, headers, body
CASES: tuple[tuple[str, str, str, str, tuple[tuple[str, str], ...], str], ...] = (
    ("root", "GET", "/", "execute-api", (), ""),
    ("plain-path", "GET", "/orders/42", "execute-api", (), ""),
    ("dot-in-segment", "GET", "/v1.0/a.b", "execute-api", (), ""),
    ("well-known", "GET", "/.well-known/x", "execute-api", (), ""),
    ("climb-above-root", "GET", "/../../a", "execute-api", (), ""),
    ("inner-dots", "GET", "/a/./b/../c/", "execute-api", (), ""),
    ("slash-after-climb", "GET", "/a/../", "execute-api", (), ""),
    ("escape-encoded-again", "GET", "/a%20b/%e4", "execute-api", (), ""),
    ("reserved-in-path", "GET", "/a:b@c&d=e+f,g;h", "execute-api", (), ""),
    ("names-and-values-sorted", "GET", "/q?b=2&a=2&b=1&a-=0&A=9", "execute-api", (), ""),
    ("flag-and-empty", "GET", "/q?flag&x=", "execute-api", (), ""),
    ("equal-sign-in-value", "GET", "/q?a=b%3Dc", "execute-api", (), ""),
    ("plus-as-escape", "GET", "/q?a=1%2B2%20x", "execute-api", (), ""),
    ("utf8-query", "GET", "/q?%C3%A9=%E2%82%AC", "execute-api", (), ""),
    ("blanks-in-values", "GET", "/h", "execute-api", (("X-Note", "  a   b\tc "),), ""),
    ("duplicate-fields", "GET", "/h", "execute-api", (("X-Tag", "b"), ("X-Tag", "a")), ""),
    ("date-field", "GET", "/h", "execute-api", (("Date", "any, the signer replaces it"),), ""),
    ("host-with-port", "GET", "/h", "execute-api", (("Host", "api.example.com:8443"),), ""),
    ("json-body", "POST", "/v1/items", "execute-api", (("Content-Type", "application/json"),), JSON_BODY),
    (
        "form-body",
        "POST",
        "/",
        "sts",
        (("Content-Type", "application/x-www-form-urlencoded"),),
        "Action=GetCallerIdentity",
    ),
    ("delete", "DELETE", "/v1/items/7", "execute-api", (), ""),
    ("s3-empty-segments", "GET", "/bucket//key/../x", "s3", (), ""),
    ("s3-escapes", "GET", "/bucket/a%20b%2Bc", "s3", (), ""),
    ("s3-body", "PUT", "/bucket/key", "s3", (), "content"),
)

SCOPE = f"20260301/{REGION}"
SIGNED_HEADERS = "SignedHeaders=content-type;etag;host;x-amz-date;x-amz-request-id"

# name, Authorization, X-Amz-Date, code, status, message
REJECTED: tuple[tuple[str, str | None, str | None, str, int, str], ...] = (
    (
        "nothing-signed",
        *(None, None),
        *("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    ),
    (
        "wrong-service",
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE}/rds-db/aws4_request, {SIGNED_HEADERS}, Signature=0",
        "20260301T120000Z",
        *("SignatureDoesNotMatch", 403, "Credential should be scoped to correct service: 'execute-api'."),
    ),
    (
        "expired",
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE}/execute-api/aws4_request, {SIGNED_HEADERS}, Signature=0",
        "20260301T114459Z",
        *("SignatureDoesNotMatch", 403),
        "Signature expired: 20260301T114459Z is now earlier than 20260301T114500Z (20260301T120000Z - 15 min.)",
    ),
    (
        "unknown-access-key",
        f"AWS4-HMAC-SHA256 Credential=AKIDNOBODY/{SCOPE}/execute-api/aws4_request, {SIGNED_HEADERS}, Signature=0",
        "20260301T120000Z",
        *("InvalidClientTokenId", 403, "The security token included in the request is invalid."),
    ),
)


def rejected(
    name: str, authorization: str | None, date: str | None, code: str, status: int, message: str
) -> dict[str, Any]:
    """One header that must be refused, in the layout of the corpus."""
    return {
        "id": f"ztproxy/reject/{name}",
        "authorization": authorization,
        "x_amz_date": date,
        "server_time": f"{NOW:%Y%m%dT%H%M%SZ}",
        "region": REGION,
        "service": "execute-api",
        "expected_code": code,
        "expected_status": status,
        "expected_message": message,
    }


def signed(
    name: str, method: str, target: str, service: str, headers: tuple[tuple[str, str], ...], body: str
) -> dict[str, Any]:
    """One case in the layout of the corpus: the request a server receives and the signer's own intermediate texts."""
    request = AWSRequest(method=method, url=f"http://{HOST}{target}", data=body.encode())
    if not any(field == "Host" for field, _ in headers):
        request.headers["Host"] = HOST
    for field, value in headers:
        request.headers[field] = value
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(ACCESS_KEY, SECRET_KEY), service, REGION)
    with patch("botocore.auth.get_current_datetime", return_value=NOW):
        signer.add_auth(request)
    parts = urlsplit(request.url)
    lines = [f"{method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1"]
    lines += [f"{field}:{value}" for field, value in request.headers.items()]
    authorization = request.headers["Authorization"]
    unsigned = AWSRequest(method=method, url=request.url, data=body.encode())
    for field, value in request.headers.items():
        if field != "Authorization":
            unsigned.headers[field] = value
    canonical = signer.canonical_request(unsigned)
    return {
        "id": f"ztproxy/botocore/{name}",
        "form": "header",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "session_token": None,
        "region": REGION,
        "service": service,
        "time": f"{NOW:%Y%m%dT%H%M%SZ}",
        "normalize_path": service != "s3",
        "signed_request": "\n".join(lines) + "\n\n" + body,
        "canonical_request": canonical,
        "signature": authorization.rpartition("Signature=")[2],
        "payload_hash": canonical.rpartition("\n")[2],
        "legal_http": True,
    }


def write(name: str, content: dict[str, Any]) -> None:
    """Write one corpus file beside this script."""
    text = json.dumps({"format": 1, **content}, indent=1) + "\n"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write("botocore.json", {"v4_generated": [signed(*case) for case in CASES]})
    write("reject.json", {"reject": [rejected(*case) for case in REJECTED]})
