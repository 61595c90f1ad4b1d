"""The fields of a request: what follows from them, and that repeating them changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ztproxy.errors import ProtocolError, Unauthenticated
from ztproxy.proxy.fields import FieldBlock
from ztproxy.types import PresentedCertificate
from ztproxy.wire.http import read_head

CERTIFICATE = PresentedCertificate(der=b"der", authority="staff", chain_expires_at=datetime(2030, 1, 1, tzinfo=UTC))


def block(*lines: bytes, version: bytes = b"HTTP/1.1") -> FieldBlock:
    rest = b"\r\n".join((b"Host: API.example.com:8443", *lines, b"", b""))
    return FieldBlock(rest, read_head(b"GET / " + version + b"\r\n" + rest), CERTIFICATE)


def test_what_follows_from_the_fields() -> None:
    found = block(b"User-Agent: curl/8", b"Referer: https://a/", b"Authorization: bearer  abc ", b"Accept: */*")
    assert found.host == "api.example.com"
    assert found.forwarded == b"User-Agent: curl/8\r\nReferer: https://a/\r\nAccept: */*\r\n"
    assert found.facts == {
        "ztproxy:protocol": "http",
        "aws:useragent": "curl/8",
        "aws:referer": "https://a/",
    }
    evidence = found.evidence("GET", b"/", None)
    assert evidence.certificate is CERTIFICATE
    assert evidence.bearer is not None
    assert evidence.bearer.reveal() == b"abc"
    assert evidence is found.evidence("POST", b"/other", None)
    assert not found.hashed_by_body


def test_a_signature_is_new_evidence_with_every_request() -> None:
    found = block(b"Authorization: AWS4-HMAC-SHA256 Credential=x")
    assert found.hashed_by_body
    one, two = found.evidence("GET", b"/a", "00"), found.evidence("GET", b"/b", "00")
    assert one.signed is not None
    assert two.signed is not None
    assert (one.signed.raw_target, two.signed.raw_target, one.signed.body_sha256) == (b"/a", b"/b", "00")
    assert one.bearer is None
    declared = block(b"Authorization: AWS4-HMAC-SHA256 Credential=x", b"X-Amz-Content-Sha256: " + b"0" * 64)
    assert declared.signed
    assert not declared.hashed_by_body


def test_without_credentials_only_the_certificate_speaks() -> None:
    evidence = block().evidence("GET", b"/", None)
    assert (evidence.certificate, evidence.bearer, evidence.signed) == (CERTIFICATE, None, None)


def test_only_the_same_bytes_of_the_same_version_repeat() -> None:
    found = block(b"Accept: */*")
    assert found.line_of(b"GET /a?b HTTP/1.1\r\n" + found.raw) == ("GET", b"/a?b")
    assert found.line_of(b"GET /a HTTP/1.1\r\n" + found.raw.replace(b"*/*", b"*/a")) is None
    assert found.line_of(b"GET /a HTTP/1.1\r\nExtra: 1\r\n" + found.raw) is None
    assert found.line_of(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n" + found.raw) is None
    assert found.line_of(b"GET /a HTTP/1.0\r\n" + found.raw) is None
    assert found.line_of(found.raw) is None
    old = block(version=b"HTTP/1.0")
    assert old.line_of(b"GET /a HTTP/1.1\r\n" + old.raw) is None


@pytest.mark.parametrize("scheme", [b"Basic dXNlcjpwYXNz", b"Negotiate abc", b"AWS abc"])
def test_other_schemes_are_no_credential(scheme: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        block(b"Authorization: " + scheme)
    assert refused.value.code == "authn.missing"


def test_a_malformed_host_is_refused() -> None:
    rest = b"Host: a b\r\n\r\n"
    with pytest.raises(ProtocolError) as refused:
        FieldBlock(rest, read_head(b"GET / HTTP/1.1\r\n" + rest), None)
    assert refused.value.code == "protocol.host"
