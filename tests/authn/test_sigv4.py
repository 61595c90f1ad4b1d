"""The SigV4 authenticator: who comes out, and what is refused in which order."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import Credentials

from tests.authn.signer import (
    ARN,
    EMPTY,
    KEY,
    NOW,
    PLAIN_KEY,
    REGIONS,
    SECRET,
    SERVICES,
    accepted,
    authenticator,
    changed,
    code,
    judged,
    replaced,
    signed,
)
from ztproxy.authn.sigv4 import LONGEST_EXCHANGE, AccessKey, SigV4Authenticator
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity, Secret, SignedRequest
from ztproxy.wire import sigv4 as wire


def resigned(
    request: SignedRequest, canonical: str, scope: str = "20260301/eu-west-1/execute-api/aws4_request"
) -> SignedRequest:
    """The request with the signature of another canonical request."""
    date, region, service, _ = scope.encode().split(b"/")
    key = wire.derive_signing_key(SECRET.encode(), date, region, service)
    text = wire.string_to_sign(b"20260301T120000Z", scope.encode(), canonical.encode())
    value = next(value for name, value in request.raw_headers if name == b"Authorization")
    return replaced(request, "Authorization", value[-64:], hmac.digest(key, text, "sha256").hex().encode())


# Who comes out


def test_identity_is_the_iam_user() -> None:
    at = NOW - timedelta(seconds=90)
    identity = accepted(signed(at=at))
    assert identity == Identity(
        subject=ARN,
        kind="sigv4",
        issuer="sigv4",
        method="sigv4",
        authenticated_at=at,
        expires_at=at + LONGEST_EXCHANGE,
        groups=("dev", "ops"),
        account="111122223333",
        principals=(f"AWS:{ARN}", "AWS:111122223333"),
        facts={
            "aws:principalarn": ARN,
            "aws:principalaccount": "111122223333",
            "aws:principaltype": "User",
            "aws:username": "ci",
            "aws:userid": "ci",
            "aws:principaltag/team": "orders",
            "ztproxy:groups": ("dev", "ops"),
        },
    )
    assert all(key == key.lower() for key in identity.facts)


def test_long_lived_keys_say_nothing_of_mfa() -> None:
    identity = accepted(signed(credentials=Credentials(PLAIN_KEY.access_key_id, "other")))
    assert identity.facts["aws:userid"] == "AIDAEXAMPLE"
    assert not {"aws:multifactorauthpresent", "aws:tokenissuetime", "ztproxy:groups"} & identity.facts.keys()


def test_identity_is_shared_by_requests_of_one_second_and_no_longer() -> None:
    verifier = authenticator()
    first = accepted(signed("/a"), by=verifier)
    assert accepted(signed("/b"), by=verifier) is first
    later = accepted(signed("/b", at=NOW + timedelta(seconds=1)), by=verifier)
    assert later.authenticated_at == NOW + timedelta(seconds=1)


def test_grant_outlives_the_window_of_the_signature() -> None:
    identity = accepted(signed(at=NOW - timedelta(seconds=300)))
    assert identity.expires_at > NOW + timedelta(hours=11)


def test_signed_evidence_is_recognised() -> None:
    assert authenticator().recognises(Evidence(signed=signed()))
    assert not authenticator().recognises(Evidence(bearer=Secret(b"x")))
    assert authenticator().name == "sigv4"


def test_secret_does_not_show() -> None:
    assert SECRET not in repr(KEY)
    assert SECRET not in repr(vars(authenticator()))


# Refusals


def test_nothing_signed() -> None:
    unsigned = changed(signed(), headers=((b"Host", b"api.example.com"),))
    assert code(None) == "authn.missing"
    assert code(unsigned) == "authn.missing"


def test_signature_in_the_query_is_told_apart() -> None:
    unsigned = changed(signed(), headers=((b"Host", b"api.example.com"),), target=b"/?X-Amz-Signature=00")
    assert code(unsigned) == "authn.sigv4-incomplete"
    for name in ("X-Amz-Signature", "x-amz-CREDENTIAL", "X-Amz-Algorithm"):
        answer = judged(signed(f"/orders/42?a=b&{name}=00"))
        assert isinstance(answer, Unauthenticated), "a signature that covers the other one is no better"
        assert answer.code == "authn.sigv4-mismatch"
        assert "Only one auth mechanism allowed" in answer.public


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"target": b"/orders/%4"}, "authn.sigv4-query"),
        ({"target": b"*"}, "authn.sigv4-query"),
        ({"authorization": (b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA512")}, "authn.sigv4-incomplete"),
        ({"authorization": (b", Signature=", b", Sig=")}, "authn.sigv4-incomplete"),
        ({"authorization": (b"=host;", b"=")}, "authn.sigv4-unsigned"),
        ({"authorization": (b";x-amz-date", b"")}, "authn.sigv4-unsigned"),
        ({"date": (b"20260301T120000Z", b"20260301T120000")}, "authn.sigv4-incomplete"),
        ({"date": (b"20260301T12", b"20260301T13")}, "authn.sigv4-expired"),
        ({"authorization": (b"/aws4_request", b"")}, "authn.sigv4-incomplete"),
        ({"authorization": (b"eu-west-1", b"us-east-1")}, "authn.sigv4-scope"),
        ({"authorization": (b"execute-api", b"rds-db")}, "authn.sigv4-scope"),
        ({"authorization": (b"aws4_request", b"aws5_request")}, "authn.sigv4-scope"),
        ({"authorization": (b"/20260301/", b"/20260302/")}, "authn.sigv4-scope"),
        ({"authorization": (b"host;x", b"accept;host;x")}, "authn.sigv4-mismatch"),
        ({"authorization": (b"AKIDEXAMPLE1", b"AKIDEXAMPLE9")}, "authn.sigv4-key"),
        ({"authorization": (b"AKIDEXAMPLE1", b"AKIDEXAMPLE2")}, "authn.sigv4-mismatch"),
        ({"target": b"/orders/43"}, "authn.sigv4-mismatch"),
    ],
)
def test_fault_has_its_code(fault: dict[str, bytes | tuple[bytes, bytes]], expected: str) -> None:
    request = signed()
    for where, what in fault.items():
        if isinstance(what, bytes):
            request = changed(request, target=what)
        else:
            request = replaced(request, {"authorization": "Authorization", "date": "X-Amz-Date"}[where], *what)
    assert code(request) == expected
    warm = authenticator()
    accepted(signed(), by=warm)
    assert code(request, by=warm) == expected, "the same once the scope is known"


# In the order of the checks; the words tell apart what shares a code.
FAULTS: tuple[tuple[str, str, Callable[[SignedRequest], SignedRequest]], ...] = (
    ("authn.sigv4-query", "percent-escape", lambda request: changed(request, target=b"/%4")),
    ("authn.sigv4-incomplete", "algorithm", lambda request: replaced(request, "Authorization", b"-SHA256 ", b"-X ")),
    ("authn.sigv4-unsigned", "content-type", lambda request: replaced(request, "Authorization", b"content-type;", b"")),
    ("authn.sigv4-incomplete", "Date must be", lambda request: replaced(request, "X-Amz-Date", b"T", b"t")),
    ("authn.sigv4-expired", "expired", lambda request: replaced(request, "X-Amz-Date", b"T12", b"T11")),
    ("authn.sigv4-incomplete", "5 slash", lambda request: replaced(request, "Authorization", b"/aws4_request", b"")),
    ("authn.sigv4-scope", "region", lambda request: replaced(request, "Authorization", b"eu-west-1", b"us-west-1")),
    ("authn.sigv4-body", "not hashed", lambda request: changed(request, body_sha256=None)),
    ("authn.sigv4-key", "token", lambda request: replaced(request, "Authorization", b"EXAMPLE1", b"EXAMPLE9")),
    ("authn.sigv4-mismatch", "calculated", lambda request: changed(request, target=b"/orders/43")),
)


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_earliest_fault_answers(first: int) -> None:
    request = signed(method="POST", headers={"Content-Type": "text/plain"}, body=b"x")
    for _, _, fault in reversed(FAULTS[first:]):
        request = fault(request)
    answer = judged(request)
    assert isinstance(answer, Unauthenticated)
    assert answer.code == FAULTS[first][0]
    assert FAULTS[first][1] in answer.public


def test_all_faults_of_a_scope_are_told_in_the_words_of_aws() -> None:
    request = replaced(
        signed(), "Authorization", b"20260301/eu-west-1/execute-api/aws4_request", b"20260302/x/y/aws5_request"
    )
    answer = judged(request)
    assert isinstance(answer, Unauthenticated)
    assert answer.public == (
        "Credential should be scoped to a valid region, not 'x'."
        " Credential should be scoped to correct service: 'execute-api, s3, sts'."
        " Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."
        " Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
        " '20260302' != '20260301', from '20260301T120000Z'."
    )


@pytest.mark.parametrize(
    ("skew_s", "age_s", "message"),
    [
        (300, 300, None),
        (300, -300, None),
        (
            300,
            301,
            "Signature expired: 20260301T120000Z is now earlier than 20260301T120001Z (20260301T120501Z - 5 min.)",
        ),
        (
            300,
            -301,
            "Signature not yet current: 20260301T120000Z is still later than 20260301T115959Z"
            " (20260301T115459Z + 5 min.)",
        ),
        (90, 91, "Signature expired: 20260301T120000Z is now earlier than 20260301T120001Z (20260301T120131Z - 90 s)"),
    ],
)
def test_age_is_judged_both_ways(skew_s: int, age_s: int, message: str | None) -> None:
    answer = judged(signed(at=NOW), by=authenticator(skew_s), now=NOW + timedelta(seconds=age_s))
    if message is None:
        assert isinstance(answer, Identity)
    else:
        assert isinstance(answer, Unauthenticated)
        assert (answer.code, answer.public) == ("authn.sigv4-expired", message)


def test_sts_has_fifteen_minutes_and_any_region() -> None:
    request = signed("/", service="sts", region="ap-south-1")
    for _ in range(2):
        assert accepted(request, now=NOW + timedelta(seconds=900)).subject == ARN
    assert code(request, now=NOW + timedelta(seconds=901)) == "authn.sigv4-expired"
    assert code(replaced(request, "Authorization", b"EXAMPLE1", b"EXAMPLE9")) == "authn.sigv4-key"
    assert code(signed("/", region="ap-south-1")) == "authn.sigv4-scope"
    without_sts = SigV4Authenticator([KEY], REGIONS, frozenset({"execute-api"}))
    assert code(request, by=without_sts) == "authn.sigv4-scope"


def test_signing_keys_are_kept_for_the_scopes_that_can_be_live_and_no_more() -> None:
    verifier = SigV4Authenticator([KEY], REGIONS, frozenset({"execute-api"}))
    for day in range(5):
        at = NOW + timedelta(days=day)
        for _ in range(2):
            accepted(signed(at=at), by=verifier, now=at)
        assert code(signed(at=at, region="ap-south-1"), by=verifier, now=at) == "authn.sigv4-scope"
        assert len(verifier._signing_keys) <= 2


def test_yesterdays_scope_does_not_serve_today() -> None:
    verifier = authenticator()
    midnight = datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC)
    before, after = midnight - timedelta(seconds=10), midnight + timedelta(seconds=10)
    accepted(signed(at=before), by=verifier, now=midnight)
    accepted(signed(at=after), by=verifier, now=midnight)
    mixed = replaced(signed(at=after), "Authorization", b"/20260302/", b"/20260301/")
    assert code(mixed, by=verifier, now=midnight) == "authn.sigv4-scope"


def test_session_token_is_none_of_ours() -> None:
    request = signed(credentials=Credentials(KEY.access_key_id, SECRET, "a-token"))
    answer = judged(request)
    assert isinstance(answer, Unauthenticated)
    assert (answer.code, answer.public) == (
        "authn.sigv4-key",
        "The security token included in the request is invalid.",
    )
    assert "a-token" not in answer.detail


def test_unknown_key_id_is_recorded_not_repeated() -> None:
    answer = judged(replaced(signed(), "Authorization", b"AKIDEXAMPLE1", b"AKIDNOBODY"))
    assert isinstance(answer, Unauthenticated)
    assert "AKIDNOBODY" in answer.detail
    assert "AKIDNOBODY" not in answer.public


def test_two_authorization_fields() -> None:
    request = signed()
    (authorization,) = (field for field in request.raw_headers if field[0] == b"Authorization")
    assert code(changed(request, headers=(*request.raw_headers, authorization))) == "authn.sigv4-incomplete"


# Payload


def test_body_that_was_read_is_what_is_signed() -> None:
    request = signed(method="POST", body=b"content")
    accepted(request)
    assert code(changed(request, body_sha256=hashlib.sha256(b"other").hexdigest())) == "authn.sigv4-mismatch"
    assert code(changed(request, body_sha256=None)) == "authn.sigv4-body"


def test_declared_hash_is_signed_and_held_against_the_body_once_that_is_known() -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    request = signed("/bucket/key", method="PUT", body=b"content", service="s3", body_sha256=None)
    assert wire.declared_body_sha256(request.raw_headers) == digest
    assert not wire.needs_body(request.raw_headers)
    accepted(request)
    accepted(changed(request, body_sha256=digest))
    assert code(changed(request, body_sha256=EMPTY)) == "authn.sigv4-body"
    assert code(replaced(request, "X-Amz-Content-SHA256", digest.encode(), EMPTY.encode())) == "authn.sigv4-mismatch"


@pytest.mark.parametrize(
    "value",
    ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "AB" * 32, "x"],
)
def test_other_payload_values_are_refused_by_name(value: str) -> None:
    answer = judged(signed(method="PUT", headers={"X-Amz-Content-SHA256": value}))
    assert isinstance(answer, Unauthenticated)
    assert answer.code == "authn.sigv4-body"
    assert value in answer.public


def test_upload_with_an_unsigned_body_is_told_so() -> None:
    answer = judged(changed(signed(method="PUT"), body_sha256=hashlib.sha256(b"content").hexdigest()))
    assert isinstance(answer, Unauthenticated)
    assert "`curl -T`" in answer.public


# Targets


def test_absolute_form_is_reduced_and_must_name_the_signed_host() -> None:
    request = signed("/orders/42?a=b")
    for authority in (b"api.example.com", b"API.example.com"):
        accepted(changed(request, target=b"http://" + authority + b"/orders/42?a=b"))
    assert code(changed(request, target=b"http://evil.example.com/orders/42?a=b")) == "authn.sigv4-unsigned"


def test_path_is_normalised_except_for_s3() -> None:
    accepted(changed(signed("/a/b"), target=b"/a/./x/..//b"))
    s3 = signed("/a//b", service="s3")
    accepted(s3)
    assert code(changed(s3, target=b"/a/b")) == "authn.sigv4-mismatch"


def test_curl_7_88_form_is_accepted() -> None:
    request = signed("/a%20b")
    canonical = f"GET\n/a%20b\nz=1&a&b=+\nhost:api.example.com\nx-amz-date:20260301T120000Z\n\nhost;x-amz-date\n{EMPTY}"
    accepted(resigned(changed(request, target=b"/a%20b?z=1&a&b=+"), canonical))
    assert code(resigned(changed(request, target=b"/a%20b?a&b=+&z=1"), canonical)) == "authn.sigv4-mismatch"


# Construction


@pytest.mark.parametrize(
    ("keys", "regions", "services", "skew_s", "words"),
    [
        ([], REGIONS, SERVICES, 300, "must each be named"),
        ([KEY], frozenset[str](), SERVICES, 300, "must each be named"),
        ([KEY], REGIONS, frozenset[str](), 300, "must each be named"),
        ([KEY, KEY], REGIONS, SERVICES, 300, "twice"),
        ([replace(KEY, access_key_id="")], REGIONS, SERVICES, 300, "separator"),
        ([replace(KEY, access_key_id="a/b")], REGIONS, SERVICES, 300, "separator"),
        ([replace(KEY, access_key_id="a,b")], REGIONS, SERVICES, 300, "separator"),
        ([KEY], REGIONS, SERVICES, 0, "skew"),
        ([KEY], REGIONS, SERVICES, 901, "skew"),
    ],
)
def test_empty_or_impossible_restrictions_do_not_load(
    keys: list[AccessKey], regions: frozenset[str], services: frozenset[str], skew_s: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        SigV4Authenticator(keys, regions, services, skew_s)
