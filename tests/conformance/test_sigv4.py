"""The header form of SigV4 against every case there is: our own in `tests/vectors/sigv4/` and $ZTPROXY_VECTORS/sigv4/.

Cases are selected by list and form; what the selection found is itself asserted, so that no case is passed over.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from ztproxy.authn.sigv4 import AccessKey, SigV4Authenticator
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity, NetworkContext, Secret, SignedRequest
from ztproxy.wire import sigv4 as wire
from ztproxy.wire.sigv4_canonical import (
    Form,
    canonical_headers,
    canonical_path,
    canonical_query,
    canonical_request,
    read_fields,
    split_target,
)

Case = dict[str, Any]

OWN: Final = Path(__file__).parent.parent / "vectors" / "sigv4"
SHARED: Final = Path(os.environ["ZTPROXY_VECTORS"], "sigv4") if "ZTPROXY_VECTORS" in os.environ else None
NETWORK: Final = NetworkContext(listener="edge", peer="192.0.2.1", peer_port=40000)
ACCOUNT: Final = "111122223333"

AWS_JSON_NAMES: Final = {
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
}
"""JSON services, whose names we use, and the query services of the corpus call the same error differently."""


def _documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]


OWN_DOCUMENTS: Final = _documents(OWN)
SHARED_DOCUMENTS: Final = _documents(SHARED) if SHARED is not None else []


def _cases(documents: list[dict[str, Any]], *lists: str) -> Iterator[Case]:
    for document in documents:
        for name in lists:
            yield from (case for case in document.get(name, ()) if case.get("form", "header") == "header")


ACCEPTED: Final = [*_cases([*OWN_DOCUMENTS, *SHARED_DOCUMENTS], "v4", "v4_s3", "v4_generated")]
CURL: Final = [*_cases([*OWN_DOCUMENTS, *SHARED_DOCUMENTS], "curl_7_88")]
REJECTED: Final = [*_cases([*OWN_DOCUMENTS, *SHARED_DOCUMENTS], "reject")]


def received(case: Case) -> SignedRequest:
    """The request as its bytes arrive, below any HTTP parser: lines end in LF, folds stay in the value."""
    head, _, body = case["signed_request"].encode().partition(b"\n\n")
    request_line, *lines = head.split(b"\n")
    method, _, target = request_line.removesuffix(b" HTTP/1.1").partition(b" ")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            headers[-1] = (headers[-1][0], headers[-1][1] + b"\n" + line)
        else:
            name, _, value = line.partition(b":")
            headers.append((name, value))
    return SignedRequest(
        method=method.decode(),
        raw_target=target,
        raw_headers=tuple(headers),
        body_sha256=hashlib.sha256(body).hexdigest(),
    )


def instant(basic: str) -> datetime:
    return datetime.fromisoformat(basic)


def authenticator(case: Case, skew_s: int = 300) -> SigV4Authenticator:
    key = AccessKey(
        access_key_id=case.get("access_key", "AKIDEXAMPLE"),
        secret=Secret(case.get("secret_key", "any").encode()),
        user="ci",
        arn=f"arn:aws:iam::{ACCOUNT}:user/ci",
        account=ACCOUNT,
    )
    return SigV4Authenticator([key], frozenset({case["region"]}), frozenset({case["service"]}), skew_s)


def identified(case: Case, request: SignedRequest, at: str, skew_s: int = 300) -> Identity:
    evidence = Evidence(signed=request)
    return asyncio.run(authenticator(case, skew_s).identify(evidence, NETWORK, instant(at)))


def _id(case: Case) -> str:
    return str(case["id"])


def test_every_known_case_is_selected() -> None:
    assert len([*_cases(OWN_DOCUMENTS, "v4_generated")]) >= 24
    assert len([*_cases(OWN_DOCUMENTS, "curl_7_88")]) >= 11
    assert len([*_cases(OWN_DOCUMENTS, "reject")]) >= 4
    if SHARED is not None:
        assert len([*_cases(SHARED_DOCUMENTS, "v4")]) >= 38
        assert len([*_cases(SHARED_DOCUMENTS, "v4_s3")]) >= 2
        assert len([*_cases(SHARED_DOCUMENTS, "v4_generated")]) >= 18
        assert len([*_cases(SHARED_DOCUMENTS, "reject")]) >= 8
        assert any(not case["legal_http"] for case in ACCEPTED)


@pytest.mark.parametrize("case", ACCEPTED, ids=_id)
def test_canonical_request_and_signature_are_the_signers(case: Case) -> None:
    request = received(case)
    fields = read_fields(request.raw_headers)
    claim, signature, date = wire.parse_authorization(fields)
    wire.require_signed(fields, claim.signed_headers)
    timestamp = wire.parse_timestamp(date)
    scope = wire.parse_scope(claim.credential)
    _, path, query = split_target(request.raw_target)
    form = Form.NORMALIZED if case["normalize_path"] else Form.UNNORMALIZED
    assert request.body_sha256 is not None
    payload_hash = fields.get(wire.CONTENT_SHA256, request.body_sha256.encode())
    canonical = canonical_request(
        method=request.method,
        path=canonical_path(path, Form.OBJECT_KEY if case["service"] == "s3" else form),
        query=canonical_query(query),
        headers=canonical_headers(fields, claim.signed_headers.labels),
        signed_headers=claim.signed_headers.listed,
        payload_hash=payload_hash,
    )
    assert canonical.decode() == case["canonical_request"]
    signed_text = wire.string_to_sign(timestamp.basic, claim.scope, canonical)
    assert signed_text.decode() == case.get("string_to_sign", signed_text.decode())
    signing_key = wire.derive_signing_key(case["secret_key"].encode(), scope.date, scope.region, scope.service)
    assert wire.signature_matches(wire.keyed(signing_key), signed_text, case["signature"].encode())
    assert signature == case["signature"].encode()


def _opens_the_door(case: Case) -> bool:
    """Long-lived keys have no session token; who skips normalisation or leaves the body unsigned is not let in."""
    return (
        not case["session_token"]
        and (case["normalize_path"] or case["service"] == "s3")
        and wire.is_sha256(case["payload_hash"].encode())
    )


@pytest.mark.parametrize("case", [each for each in ACCEPTED if _opens_the_door(each)], ids=_id)
def test_authenticator_accepts(case: Case) -> None:
    identity = identified(case, received(case), case["time"])
    assert identity.subject == f"arn:aws:iam::{ACCOUNT}:user/ci"
    assert identity.authenticated_at == instant(case["time"])


@pytest.mark.parametrize("case", [each for each in CURL if each["accepted"]], ids=_id)
def test_curl_7_88_is_accepted_over_the_target_as_sent(case: Case) -> None:
    assert identified(case, received(case), case["time"]).kind == "sigv4"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("escaped-percent-sign", "authn.sigv4-mismatch", "does not match"),
        ("body-with-default-type", "authn.sigv4-unsigned", "'content-type' must be a 'SignedHeader'"),
        ("upload", "authn.sigv4-mismatch", "`curl -T`"),
    ],
)
def test_curl_7_88_is_refused_with_a_message_that_helps(name: str, code: str, words: str) -> None:
    (case,) = (each for each in CURL if each["id"].endswith(f"/{name}"))
    assert not case["accepted"]
    with pytest.raises(Unauthenticated) as refused:
        identified(case, received(case), case["time"])
    assert refused.value.code == code
    assert words in refused.value.public


@pytest.mark.parametrize("case", REJECTED, ids=_id)
def test_faults_get_the_code_and_the_words_of_aws(case: Case) -> None:
    headers = [
        (b"Host", b"example.amazonaws.com"),
        (b"Content-Type", b"text/plain"),
        (b"Etag", b"x"),
        (b"X-Amz-Request-Id", b"y"),
    ]
    if case["authorization"] is not None:
        headers.append((b"Authorization", case["authorization"].encode()))
    if case["x_amz_date"] is not None:
        headers.append((b"X-Amz-Date", case["x_amz_date"].encode()))
    request = SignedRequest(method="GET", raw_target=b"/", raw_headers=tuple(headers), body_sha256="0" * 64)
    with pytest.raises(Unauthenticated) as refused:
        identified(case, request, case["server_time"], skew_s=900)
    error = refused.value
    assert AWS_JSON_NAMES.get(error.aws_code, error.aws_code) == case["expected_code"]
    # Who signs nothing is no AWS caller yet, and gets the status HTTP has for that.
    assert error.status == {"authn.missing": 401}.get(error.code, case["expected_status"])
    # AWS repeats the whole header in one text; we do not, for a signature is good until it ages out.
    assert case["expected_message"].startswith(error.public)
