"""Every refusal in the language its caller reads, telling as much as its level and nothing of the record."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.fakes.proxy import Answer
from tests.proxy.wires import head
from ztproxy.errors import CODES, AccessError
from ztproxy.gate import Refused
from ztproxy.proxy.render import CONTINUE, PLAIN, STATUS_LINES, Reader, http_date, reader_of, refusal
from ztproxy.types import DenyDetail
from ztproxy.wire.http import read_head

RENDERED = [code for code, spec in CODES.items() if spec.status]
SIGNED, BROWSER = Reader(signed=True), Reader(html=True)
CANARY = "c4nary-of-the-record"


def refused(
    code: str = "authz.denied-implicit",
    *,
    level: DenyDetail = DenyDetail.REASON,
    reasons: tuple[str, ...] = ("no statement allows this",),
) -> Refused:
    error = CODES[code].error(code, "the public words", detail=CANARY)
    return Refused(attempt="boot-7", error=error, level=level, reasons=reasons)


def rendered(refusal_: Refused, reader: Reader = PLAIN, *, close: bool = False) -> Answer:
    """The answer, parsed as strictly as a client might."""
    whole = refusal(refusal_, reader, close=close)
    head_, separator, body = whole.partition(b"\r\n\r\n")
    assert separator
    status_line, *fields = head_.split(b"\r\n")
    match = re.fullmatch(rb"HTTP/1\.1 ([0-9]{3}) [A-Za-z' -]+", status_line)
    assert match
    assert all(re.fullmatch(rb"[A-Za-z-]+: [ -~]+", field) for field in fields)
    answer = Answer(int(match[1]), head_, body)
    if not reader.head_only:
        assert answer.value("content-length") == str(len(body))
    names = [field.partition(b":")[0].lower() for field in fields]
    assert len(names) == len(set(names))
    assert CANARY.encode() not in whole
    return answer


@pytest.mark.parametrize("code", RENDERED)
def test_every_code_has_its_problem_document(code: str) -> None:
    answer = rendered(refused(code))
    assert answer.status == CODES[code].status
    assert answer.value("content-type") == "application/problem+json"
    problem = answer.json
    title = problem.pop("title")
    assert answer.head.startswith(f"HTTP/1.1 {answer.status} {title}\r\n".encode())
    assert problem == {
        "type": "about:blank",
        "status": answer.status,
        "id": "boot-7",
        "code": code,
        "detail": "no statement allows this",
    }


@pytest.mark.parametrize("code", RENDERED)
def test_every_code_has_its_aws_answer(code: str) -> None:
    answer = rendered(refused(code), SIGNED)
    said = answer.json
    assert answer.status == CODES[code].status
    assert answer.value("content-type") == "application/json"
    assert answer.value("x-amzn-requestid") == said["requestId"] == "boot-7"
    assert answer.value("x-amzn-errortype") == said["__type"]
    assert re.fullmatch(r"[A-Za-z]+", said["__type"])
    assert said["message"] == "no statement allows this"
    if CODES[code].aws_code:
        assert said["__type"] == CODES[code].aws_code


@pytest.mark.parametrize("code", [code for code, spec in CODES.items() if spec.status >= 500])
def test_no_fault_of_ours_is_told_to_aws_callers_as_a_lack_of_permission(code: str) -> None:
    assert "AccessDenied" not in rendered(refused(code), SIGNED).json["__type"]


@pytest.mark.parametrize("code", RENDERED)
def test_every_code_has_its_page(code: str) -> None:
    answer = rendered(refused(code), BROWSER)
    assert answer.status == CODES[code].status
    assert answer.value("content-type") == "text/html; charset=utf-8"
    assert b"<code>boot-7</code>" in answer.body
    assert b"<p>no statement allows this</p>" in answer.body


@pytest.mark.parametrize("reader", [PLAIN, SIGNED, BROWSER])
@pytest.mark.parametrize("code", RENDERED)
def test_every_answer_of_ours_is_kept_nowhere_and_framed_by_nobody(code: str, reader: Reader) -> None:
    answer = rendered(refused(code), reader)
    assert answer.value("cache-control") == "no-store"
    assert answer.value("x-content-type-options") == "nosniff"
    assert answer.value("referrer-policy") == "no-referrer"
    policy = answer.value("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.value("x-ztproxy-id") == "boot-7"
    assert (answer.value("retry-after") is not None) == (answer.status == 503)
    assert (answer.value("www-authenticate") is not None) == (answer.status == 401)
    assert answer.value("connection") is None


@pytest.mark.parametrize("reader", [PLAIN, SIGNED, BROWSER])
def test_an_answer_that_ends_the_connection_says_so(reader: Reader) -> None:
    assert rendered(refused("protocol.head"), reader, close=True).value("connection") == "close"


@pytest.mark.parametrize(
    ("code", "challenge"),
    [
        ("authn.missing", 'Bearer realm="ztproxy"'),
        ("authn.certificate-missing", 'Bearer realm="ztproxy"'),
        ("authn.token-expired", 'Bearer realm="ztproxy", error="invalid_token"'),
    ],
)
def test_a_challenge_says_whether_a_token_came(code: str, challenge: str) -> None:
    assert rendered(refused(code)).value("www-authenticate") == challenge


@pytest.mark.parametrize("reader", [SIGNED, BROWSER, PLAIN])
def test_an_answer_to_head_has_no_body_and_the_length_it_would_have(reader: Reader) -> None:
    whole = rendered(refused(), reader)
    asked = Reader(signed=reader.signed, html=reader.html, head_only=True)
    alone = rendered(refused(), asked)
    assert alone.body == b""
    assert alone.value("content-length") == str(len(whole.body))
    assert alone.value("content-type") == whole.value("content-type")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("authz.denied-explicit", "access is denied"),
        ("authn.token-expired", "authentication is required, or the credential was not accepted"),
        ("route.none", "the public words"),
    ],
)
@pytest.mark.parametrize("reader", [PLAIN, SIGNED, BROWSER])
def test_at_the_lowest_level_only_the_id_tells_refusals_apart(code: str, words: str, reader: Reader) -> None:
    answer = rendered(refused(code, level=DenyDetail.ID, reasons=("statement `NeverAdmin` denies this",)), reader)
    assert b"NeverAdmin" not in answer.body
    assert code.encode() not in answer.body
    assert words.encode() in answer.body
    assert b"boot-7" in answer.body


def test_at_the_full_level_every_reason_is_listed() -> None:
    answer = rendered(refused(level=DenyDetail.FULL, reasons=("one", "two")))
    assert (answer.json["detail"], answer.json["reasons"]) == ("one; two", ["one", "two"])
    assert "reasons" not in rendered(refused(reasons=("one",))).json


@pytest.mark.parametrize("reader", [PLAIN, SIGNED, BROWSER])
def test_what_a_caller_wrote_comes_back_as_text(reader: Reader) -> None:
    """A reason quotes the path asked for, and a path is the caller's own (S36)."""
    hostile = "</p><script>alert(1)</script>&\"'\r\nSet-Cookie: a=b"
    answer = rendered(refused(reasons=(hostile,)), reader)
    assert answer.value("set-cookie") is None
    if reader.html:
        assert b"<script" not in answer.body
        assert b"&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;" in answer.body
    else:
        assert hostile in answer.json.values()


def read(*fields: str, method: str = "GET") -> Reader:
    return reader_of(read_head(head(method, "/", *fields)), head_only=method == "HEAD")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), PLAIN),
        (("Accept: */*",), PLAIN),
        (("Accept: application/json",), PLAIN),
        (("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",), BROWSER),
        (("Accept: TEXT/HTML",), BROWSER),
        (("Accept: text/html, application/json",), BROWSER),
        (("Accept: application/json, text/html",), PLAIN),
        (("Authorization: AWS4-HMAC-SHA256 Credential=x",), SIGNED),
        (("Authorization: AWS4-ECDSA-P256-SHA256 Credential=x",), SIGNED),
        (("Authorization: Bearer AWS4-",), PLAIN),
    ],
)
def test_which_language_a_caller_reads(fields: tuple[str, ...], expected: Reader) -> None:
    assert read(*fields) == expected


def test_an_answer_to_head_is_asked_for_by_the_method() -> None:
    assert read(method="HEAD") == Reader(head_only=True)


def test_the_date_is_that_of_now_and_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[float] = [1_700_000_000.9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    first = http_date()
    assert first == b"Tue, 14 Nov 2023 22:13:20 GMT"
    assert parsedate_to_datetime(first.decode()) == datetime.fromtimestamp(1_700_000_000, UTC)
    assert http_date() is first
    now[0] += 0.2
    assert http_date() == b"Tue, 14 Nov 2023 22:13:21 GMT"


def test_a_status_line_stands_ready_for_every_status() -> None:
    assert STATUS_LINES[200] == b"HTTP/1.1 200 OK\r\n"
    assert STATUS_LINES[299] == b"HTTP/1.1 299 \r\n"
    assert STATUS_LINES[100] + b"\r\n" == CONTINUE
    assert set(STATUS_LINES) == set(range(100, 600))


def test_json_of_ours_is_json() -> None:
    error: AccessError = CODES["internal"].error("internal", 'quotes " and \\ and \u2028')
    whole = refusal(
        Refused(attempt="i", error=error, level=DenyDetail.REASON, reasons=(error.public,)), PLAIN, close=True
    )
    parsed: Any = json.loads(whole.partition(b"\r\n\r\n")[2])
    assert parsed["detail"] == error.public
