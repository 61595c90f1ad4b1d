"""Reading a signature's parameters, deriving keys, comparing: AWS's published example and every fault by name."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.errors import Unauthenticated
from ztproxy.wire import sigv4

CREDENTIAL = b"AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request"
USUAL = b"AWS4-HMAC-SHA256 Credential=" + CREDENTIAL + b", SignedHeaders=host;x-amz-date, Signature=abc"
DATE = b"20150830T123600Z"


def fields(authorization: bytes = USUAL, date: bytes | None = DATE, **more: bytes) -> dict[bytes, bytes]:
    found = {b"host": b"h", b"authorization": authorization}
    if date is not None:
        found[b"x-amz-date"] = date
    return found | {name.encode(): value for name, value in more.items()}


def refusal(authorization: bytes, date: bytes | None = DATE) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as refused:
        sigv4.parse_authorization(fields(authorization, date))
    assert refused.value.code == "authn.sigv4-incomplete"
    assert refused.value.aws_code == "IncompleteSignature"
    return refused.value


@pytest.mark.parametrize(
    ("value", "is_one"), [(USUAL, True), (b"aws4-ecdsa-p256-sha256 x", True), (b"Bearer x", False), (b"", False)]
)
def test_family_is_recognised_by_its_scheme(value: bytes, is_one: bool) -> None:
    assert sigv4.is_sigv4(value) is is_one


@pytest.mark.parametrize(
    ("query", "is_one"),
    [
        (b"X-Amz-Signature=a", True),
        (b"a=b&x-amz-credential=c", True),
        (b"", False),
        (b"x=X-Amz-Signature", False),
        (b"a=x-amz-signature=", False),
        (b"X-Amz-Date=1", False),
    ],
)
def test_query_form_is_recognised_by_its_parameters(query: bytes, is_one: bool) -> None:
    assert sigv4.is_query_form(query) is is_one


def test_body_is_needed_when_nothing_declares_its_hash() -> None:
    digest = b"ab" * 32
    declared = ((b"Host", b"h"), (b"X-Amz-Content-SHA256", b" " + digest + b" "))
    assert sigv4.needs_body(((b"Host", b"h"),))
    assert not sigv4.needs_body(declared)
    assert sigv4.declared_body_sha256(declared) == digest.decode()
    assert sigv4.declared_body_sha256(((b"Host", b"h"),)) is None
    assert sigv4.declared_body_sha256(declared * 2) is None
    assert not sigv4.needs_body(((b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),))
    assert sigv4.declared_body_sha256(((b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),)) is None
    assert not sigv4.is_sha256(digest.upper())


@pytest.mark.parametrize(
    "authorization",
    [
        USUAL,
        b"  " + USUAL + b" ",
        USUAL.replace(b", ", b","),
        USUAL.replace(b", ", b" ,  "),
        b"AWS4-HMAC-SHA256 Signature=abc, SignedHeaders=host;x-amz-date, Credential=" + CREDENTIAL,
        b"AWS4-HMAC-SHA256 SignedHeaders=host;x-amz-date,Credential=" + CREDENTIAL + b", Signature=abc",
    ],
)
def test_parameters_in_any_order(authorization: bytes) -> None:
    claim, signature, date = sigv4.parse_authorization(fields(authorization))
    assert (claim.credential, claim.access_key_id) == (CREDENTIAL, b"AKIDEXAMPLE")
    assert claim.scope == b"20150830/us-east-1/iam/aws4_request"
    assert claim.signed_headers.listed == b"host;x-amz-date"
    assert claim.signed_headers.members == {b"host", b"x-amz-date"}
    assert claim.signed_headers.labels == ((b"host", b"host:"), (b"x-amz-date", b"x-amz-date:"))
    assert (signature, date) == (b"abc", DATE)


def test_date_is_the_amazon_one_before_the_http_one() -> None:
    for amazon, expected in ((b" 1 ", b"1"), (None, b"2"), (b"", b"")):
        assert sigv4.parse_authorization(fields(date=amazon) | {b"date": b"2"})[2] == expected


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        (b"AWS4-HMAC-SHA1 Credential=a", "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'."),
        (b"AWS4-ECDSA-P256-SHA256 " + USUAL[17:], "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."),
        (b"AWS4-HMAC-SHA256", "'' not a valid key=value pair (missing equal-sign) in Authorization header"),
        (USUAL + b",", "'' not a valid key=value pair (missing equal-sign) in Authorization header"),
        (USUAL + b", Signature=abd", "Authorization header has more than one 'Signature' parameter."),
        (
            USUAL.replace(b" Cred", b" Credential=x, Cred"),
            "Authorization header has more than one 'Credential' parameter.",
        ),
        (USUAL + b", Extra=1", "Authorization header has an unknown parameter 'Extra'."),
        (USUAL.replace(b"Signature", b"signature"), "requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256"),
        (USUAL.replace(b"host;x", b"x;host;x"), "'SignedHeaders' must be lower case, sorted and without repetition."),
        (USUAL.replace(b"host;", b"host;host;"), "'SignedHeaders' must be lower case, sorted and without repetition."),
        (USUAL.replace(b"host;", b"Host;"), "'SignedHeaders' must be lower case, sorted and without repetition."),
        (USUAL + b"c" * 4096, "Authorization header is longer than 4096 bytes."),
    ],
)
def test_fault_is_named(authorization: bytes, words: str) -> None:
    assert refusal(authorization).public.endswith(words)


def test_number_of_signed_headers_is_bounded() -> None:
    names = b";".join(b"h%03d" % number for number in range(129))
    assert "more than 128" in refusal(USUAL.replace(b"host;x-amz-date", names)).public
    assert len(sigv4.parse_signed_headers(names.rpartition(b";")[0]).members) == 128


def test_everything_missing_is_said_at_once() -> None:
    assert refusal(b"AWS4-HMAC-SHA256 Credential=a", None).public == (
        "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."
        " Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        " Authorization=AWS4-HMAC-SHA256"
    )
    assert "'X-Amz-Date' or a 'Date'" in refusal(USUAL, None).public


def test_refusals_never_repeat_a_signature() -> None:
    signature = b"5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    whole = USUAL.replace(b"abc", signature)
    for authorization in (whole + b", x", whole + b", Extra=1", whole.replace(b"Cred", b"cred"), b"x" + whole):
        assert signature.decode() not in refusal(authorization).public


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_garbage_is_refused_or_read_never_a_crash(tail: bytes) -> None:
    for value in (tail, b"AWS4-HMAC-SHA256 " + tail, USUAL + tail):
        try:
            claim, signature, _ = sigv4.parse_authorization(fields(value))
        except Unauthenticated as refused:
            code = refused.code
        else:
            code = ""
            assert value.startswith(USUAL)
            assert claim.credential == CREDENTIAL
            assert signature.startswith(b"abc")
        assert code in ("", "authn.sigv4-incomplete")


def test_host_amazon_fields_and_content_type_must_be_signed() -> None:
    signed = sigv4.parse_signed_headers(b"host;x-amz-date")
    sigv4.require_signed(fields(**{"user-agent": b"x", "x-amzn-trace-id": b"y"}), signed)
    for name in ("x-amz-meta", "content-type", "x-amz-security-token", "x-amz-content-sha256"):
        with pytest.raises(Unauthenticated) as refused:
            sigv4.require_signed(fields(**{name: b"x"}), signed)
        assert refused.value.code == "authn.sigv4-unsigned"
        assert refused.value.public == f"'{name}' must be a 'SignedHeader' in the AWS Authorization."
    with pytest.raises(Unauthenticated, match="'Host' or ':authority' must be a 'SignedHeader'"):
        sigv4.require_signed(fields(), sigv4.parse_signed_headers(b"x-amz-date"))


@pytest.mark.parametrize("date", [DATE, b"Sun, 30 Aug 2015 12:36:00 GMT", b"Sun, 30 Aug 2015 12:36:00 -0000"])
def test_timestamp_in_both_spellings(date: bytes) -> None:
    timestamp = sigv4.parse_timestamp(date)
    assert timestamp.at == datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    assert timestamp.basic == DATE


@pytest.mark.parametrize(
    "date",
    [
        b"",
        b"2015/08/30T12/36/00Z",
        b"2015-08-30T12:36:00Z",
        b"20150830T123600",
        b"20150830T123600Z,20150830T123600Z",
        b"20150230T123600Z",
        b"20150830T126000Z",
        "٢0150830T123600Z".encode(),
        b"Sun, 31 Feb 2015 12:36:00 GMT",
        b"Sun, 30 Foo 2015 12:36:00 GMT",
        b"Sun, 30 Aug 2015 12:36:00 +0200",
    ],
)
def test_unreadable_date(date: bytes) -> None:
    with pytest.raises(Unauthenticated, match="Date must be in ISO-8601 'basic format'") as refused:
        sigv4.parse_timestamp(date)
    assert refused.value.code == "authn.sigv4-incomplete"


def test_basic_time_is_utc() -> None:
    assert sigv4.basic_time(datetime(2015, 8, 30, 14, 36, tzinfo=timezone(timedelta(hours=2)))) == DATE.decode()


def test_scope_has_five_parts() -> None:
    assert sigv4.parse_scope(CREDENTIAL) == sigv4.Scope(b"20150830", b"us-east-1", b"iam", b"aws4_request")
    for credential in (b"AKID", b"AKID/20150830/us-east-1/aws4_request", CREDENTIAL + b"/x"):
        with pytest.raises(Unauthenticated, match="exactly 5 slash-delimited elements") as refused:
            sigv4.parse_scope(credential)
        assert refused.value.code == "authn.sigv4-incomplete"


def test_published_example_of_key_and_signature() -> None:
    key = sigv4.derive_signing_key(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"20150830", b"us-east-1", b"iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    canonical_sha256 = "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    signed_text = f"AWS4-HMAC-SHA256\n{DATE.decode()}\n20150830/us-east-1/iam/aws4_request\n{canonical_sha256}".encode()
    signature = b"5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    keyed = sigv4.keyed(key)
    assert sigv4.signature_matches(keyed, signed_text, signature)
    assert sigv4.signature_matches(keyed, signed_text, signature)
    assert not sigv4.signature_matches(keyed, signed_text, signature.upper())
    assert not sigv4.signature_matches(keyed, signed_text, b"\xff")
    assert not sigv4.signature_matches(keyed, signed_text + b" ", signature)


def test_string_to_sign_holds_the_hash_of_the_canonical_request() -> None:
    digest = hashlib.sha256(b"canonical").hexdigest()
    expected = f"AWS4-HMAC-SHA256\n{DATE.decode()}\nscope\n{digest}".encode()
    assert sigv4.string_to_sign(DATE, b"scope", b"canonical") == expected
    assert sigv4.EMPTY_SHA256.decode() == sigv4.sha256_hex(b"")


def test_what_is_shown_is_short_and_of_one_line() -> None:
    assert sigv4.shown(b"a\nb\xe4'") == "a\\nb\\xe4'"
    assert len(sigv4.shown(b"x" * 1000)) == 64
