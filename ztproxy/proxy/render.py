"""Refusals and failures as HTTP answers, in the language the caller reads.

problem+json (RFC 9457) for most, AWS's JSON shape for whoever signed with SigV4, HTML for browsers alone. What a
caller learns is the refusal's own level; the record holds the rest under the same id.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson

from ztproxy.types import DenyDetail

if TYPE_CHECKING:
    from ztproxy.gate import Refused
    from ztproxy.wire.http import RequestHead

STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b"")
    for status in range(100, 600)
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}
</style>
<h1>{status} {title}</h1>
<p>{text}</p>
<p>If you think this is wrong, give your administrator this id: <code>{id}</code></p>
</html>
"""
_OWN_PAGE: Final = (
    b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n"
)
_AWS_CODES: Final = {
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "NotFoundException",
    413: "RequestEntityTooLargeException",
    429: "TooManyRequestsException",
    500: "InternalFailure",
    501: "NotImplementedException",
    502: "BadGatewayException",
    503: "ServiceUnavailableException",
    504: "GatewayTimeoutException",
}
"""For codes without a word of their own; never a lack of permission for a fault of ours or the upstream's."""
_GENERIC: Final = {
    401: "authentication is required, or the credential was not accepted",
    403: "access is denied",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Which language the caller reads."""

    signed: bool = False
    html: bool = False
    head_only: bool = False


PLAIN: Final = Reader()


def reader_of(head: RequestHead, *, head_only: bool) -> Reader:
    """The language for answers to this request."""
    accept = (head.first(b"accept") or b"").lower()
    html, json = accept.find(b"text/html"), accept.find(b"json")
    return Reader(
        signed=(head.authorization or b"").startswith(b"AWS4-"),
        html=html >= 0 and (json < 0 or html < json),
        head_only=head_only,
    )


_date: tuple[int, bytes] = (0, b"")


def http_date() -> bytes:
    """The `Date` field of now; accurate, because SDKs correct their clocks by it."""
    global _date  # noqa: PLW0603  one value a second, shared by every answer
    now = int(time.time())
    if _date[0] != now:
        _date = (now, format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True).encode("ascii"))
    return _date[1]


def _text(refused: Refused) -> str:
    if refused.level is DenyDetail.ID:
        return _GENERIC.get(refused.error.status, refused.error.public)
    return "; ".join(refused.reasons)


def _challenge(refused: Refused) -> bytes:
    """Source: RFC 6750 §3."""
    if refused.error.status != 401:
        return b""
    if refused.error.code in ("authn.missing", "authn.certificate-missing"):
        return b'WWW-Authenticate: Bearer realm="ztproxy"\r\n'
    return b'WWW-Authenticate: Bearer realm="ztproxy", error="invalid_token"\r\n'


def refusal(refused: Refused, reader: Reader, *, close: bool) -> bytes:
    """The whole answer, head and body."""
    error = refused.error
    status, text = error.status, _text(refused)
    title = HTTPStatus(status).phrase
    extra = b""
    if reader.signed:
        aws_code = error.aws_code or _AWS_CODES.get(status, "BadRequestException")
        content_type = b"application/json"
        body = orjson.dumps({"__type": aws_code, "message": text, "requestId": refused.id}) + b"\n"
        extra = b"x-amzn-errortype: %b\r\nx-amzn-requestid: %b\r\n" % (aws_code.encode(), refused.id.encode())
    elif reader.html:
        content_type = b"text/html; charset=utf-8"
        body = _PAGE.format(status=status, title=escape(title), text=escape(text), id=escape(refused.id)).encode()
    else:
        content_type = b"application/problem+json"
        document: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "id": refused.id}
        if refused.level is not DenyDetail.ID:
            document["code"] = error.code
        document["detail"] = text
        if refused.level is DenyDetail.FULL:
            document["reasons"] = refused.reasons
        body = orjson.dumps(document) + b"\n"
    if status == 503:
        extra += b"Retry-After: 1\r\n"
    return b"".join(
        (
            STATUS_LINES[status],
            b"Date: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n" % (http_date(), content_type, len(body)),
            b"X-Ztproxy-Id: %b\r\n" % refused.id.encode(),
            _OWN_PAGE,
            _challenge(refused),
            extra,
            b"Connection: close\r\n\r\n" if close else b"\r\n",
            b"" if reader.head_only else body,
        )
    )
