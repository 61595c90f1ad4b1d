"""What each header field means to a proxy."""

import pytest

from ztproxy.wire import fields


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"Accept", fields.PASS),
        (b"X-Custom_Name", fields.PASS),
        (b"User-Agent", fields.AGENT),
        (b"REFERER", fields.REFERER),
        (b"host", fields.HOST),
        (b"Content-Length", fields.LENGTH),
        (b"Transfer-Encoding", fields.CODING),
        (b"Connection", fields.CONNECTION),
        (b"Authorization", fields.AUTHORIZATION),
        (b"Expect", fields.EXPECT),
        (b"X-Amz-Security-Token", fields.SIGNATURE),
        (b"Upgrade", fields.DROP),
        (b"TE", fields.DROP),
        (b"Proxy-Connection", fields.DROP),
        (b"Transfer_Encoding", fields.DROP),
        (b"Content.Length", fields.DROP),
        (b"Keep_Alive", fields.DROP),
    ],
)
def test_kind_of_a_request_field(name: bytes, kind: int) -> None:
    assert fields.request_kind(name) == kind
    assert fields.request_kind(name) == kind  # and again from memory


@pytest.mark.parametrize("separator", [b"-", b"_", b"."])
@pytest.mark.parametrize(
    "name", [b"X-Ztproxy-Subject", b"x-forwarded-for", b"X-Real-IP", b"FORWARDED", b"Client-Cert", b"X-Amzn-Oidc-Data"]
)
def test_asserted_fields_are_dropped_in_every_spelling(name: bytes, separator: bytes) -> None:
    spelled = name.replace(b"-", separator)
    assert fields.is_asserted(spelled)
    assert fields.request_kind(spelled) == fields.DROP
    assert fields.request_kind(spelled.upper()) == fields.DROP


@pytest.mark.parametrize(
    ("name", "dropped"),
    [(b"Content-Type", False), (b"Content-Length", True), (b"Connection", True), (b"Trailer", True), (b"Date", False)],
)
def test_answer_fields_that_stay_behind(name: bytes, dropped: bool) -> None:
    assert fields.dropped_from_answer(name) is dropped
    assert fields.dropped_from_answer(name) is dropped


def test_memory_of_spellings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_MOST_SPELLINGS", 0)
    monkeypatch.setattr(fields, "request_kinds", {})
    monkeypatch.setattr(fields, "_answer_drops", {})
    assert fields.request_kind(b"Accept") == fields.PASS
    assert not fields.dropped_from_answer(b"Accept")
    assert fields.request_kinds == {}
    assert fields._answer_drops == {}
