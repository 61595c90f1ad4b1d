"""Canonical paths, queries and headers: every rule by example, the fast ways against the slow ones."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.errors import Unauthenticated
from ztproxy.wire.sigv4_canonical import (
    Form,
    canonical_headers,
    canonical_path,
    canonical_query,
    canonical_request,
    may_be_signed_as_sent,
    read_fields,
    split_target,
)

TARGET_BYTES = st.lists(
    st.sampled_from(
        [b"/", b".", b"..", b"a", b"Z", b"~", b"%20", b"%2F", b"%2f", b"%25", b"+", b"=", b"&", b"\xc3", b" "]
    ),
    max_size=12,
).map(b"".join)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/", (None, b"/", b"")),
        (b"/a?b", (None, b"/a", b"b")),
        (b"/a?b?c", (None, b"/a", b"b?c")),
        (b"//a", (None, b"//a", b"")),
        (b"http://api.example.com/a?b=c", (b"api.example.com", b"/a", b"b=c")),
        (b"HTTPS://api.example.com:8443", (b"api.example.com:8443", b"/", b"")),
        (b"http://api.example.com?b", (b"api.example.com", b"/", b"b")),
    ],
)
def test_target_is_split(target: bytes, parts: tuple[bytes | None, bytes, bytes]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize(
    "target", [b"", b"*", b"api.example.com:443", b"ftp://x/", b"http:///a", b"/%", b"/%2", b"/a?%zz"]
)
def test_target_that_cannot_be_signed_is_a_malformed_query(target: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        split_target(target)
    assert refused.value.aws_code == "MalformedQueryString"


@pytest.mark.parametrize(
    ("path", "normalized", "unnormalized", "object_key"),
    [
        (b"/", b"/", b"/", b"/"),
        (b"/a/b/", b"/a/b/", b"/a/b/", b"/a/b/"),
        (b"/a//b", b"/a/b", b"/a//b", b"/a//b"),
        (b"//", b"/", b"//", b"//"),
        (b"/a/./b", b"/a/b", b"/a/./b", b"/a/./b"),
        (b"/a/../b", b"/b", b"/a/../b", b"/a/../b"),
        (b"/../../a", b"/a", b"/../../a", b"/../../a"),
        (b"/a/../", b"/", b"/a/../", b"/a/../"),
        (b"/a/b/..", b"/a", b"/a/b/..", b"/a/b/.."),
        (b"/.well-known/x", b"/.well-known/x", b"/.well-known/x", b"/.well-known/x"),
        (b"/a%20b", b"/a%2520b", b"/a%2520b", b"/a%20b"),
        (b"/a%7eb", b"/a%257eb", b"/a%257eb", b"/a~b"),
        (b"/%e4", b"/%25e4", b"/%25e4", b"/%E4"),
        (b"/a b", b"/a%20b", b"/a%20b", b"/a%20b"),
        (b"/\xe1\x88\xb4", b"/%E1%88%B4", b"/%E1%88%B4", b"/%E1%88%B4"),
        (b"/$+*", b"/%24%2B%2A", b"/%24%2B%2A", b"/%24%2B%2A"),
    ],
)
def test_path_by_form(path: bytes, normalized: bytes, unnormalized: bytes, object_key: bytes) -> None:
    assert canonical_path(path, Form.NORMALIZED) == normalized
    assert canonical_path(path, Form.UNNORMALIZED) == unnormalized
    assert canonical_path(path, Form.OBJECT_KEY) == object_key


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        (b"", b""),
        (b"a=1", b"a=1"),
        (b"flag", b"flag="),
        (b"b=1&a=2", b"a=2&b=1"),
        (b"a=2&a=1", b"a=1&a=2"),
        (b"a-=1&a=2", b"a=2&a-=1"),
        (b"B=1&a=2&A=3", b"A=3&B=1&a=2"),
        (b"a=b=c", b"a=b%3Dc"),
        (b"a=1+2", b"a=1%2B2"),
        (b"a=%7e&%61=b%20c", b"a=b%20c&a=~"),
        (b"a=1&&b", b"=&a=1&b="),
        (b"=x", b"=x"),
        (b"a=\xe1\x88\xb4", b"a=%E1%88%B4"),
        (b"a=/?", b"a=%2F%3F"),
    ],
)
def test_query(query: bytes, canonical: bytes) -> None:
    assert canonical_query(query) == canonical


@settings(max_examples=200)
@given(TARGET_BYTES)
def test_query_is_what_the_rule_says(query: bytes) -> None:
    pairs = [pair.partition(b"=")[::2] for pair in query.split(b"&")] if query else []
    encoded = sorted(tuple(quote(unquote_to_bytes(side), safe="-_.~") for side in pair) for pair in pairs)
    assert canonical_query(query).decode() == "&".join("=".join(pair) for pair in encoded)
    assert canonical_query(canonical_query(query)) == canonical_query(query)


@settings(max_examples=200)
@given(TARGET_BYTES)
def test_paths_lose_nothing_but_what_normalising_removes(rest: bytes) -> None:
    path = b"/" + rest
    assert unquote_to_bytes(canonical_path(path, Form.UNNORMALIZED)) == path
    assert unquote_to_bytes(canonical_path(path, Form.OBJECT_KEY)) == unquote_to_bytes(path)
    normalized = canonical_path(path, Form.NORMALIZED)
    assert normalized.startswith(b"/")
    assert not {b"", b".", b".."} & set(normalized.strip(b"/").split(b"/")) or normalized == b"/"


@pytest.mark.parametrize(
    ("path", "query", "allowed"),
    [
        (b"/a%20b", b"z&a", True),
        (b"/a%25", b"", True),
        (b"/a%25zz", b"", True),
        (b"/a%2520b", b"", False),
        (b"/a", b"b=%2520", True),
        (b"/a b", b"", False),
        (b"/a\nb", b"", False),
        (b"/a", b"b\nc", False),
        (b"/\xe4", b"", False),
    ],
)
def test_as_sent_is_for_visible_targets_without_escaped_escapes(path: bytes, query: bytes, allowed: bool) -> None:
    assert may_be_signed_as_sent(path, query) is allowed


def test_fields_are_joined_in_order_of_arrival() -> None:
    headers = ((b"My-Header1", b" value2 "), (b"Host", b"h"), (b"my-header1", b"a  b"), (b"MY-HEADER1", b"value1"))
    assert read_fields(headers) == {b"my-header1": b"value2,a b,value1", b"host": b"h"}
    assert read_fields(headers[:2]) == {b"my-header1": b" value2 ", b"host": b"h"}


def test_second_authorization_is_refused() -> None:
    with pytest.raises(Unauthenticated) as refused:
        read_fields(((b"Authorization", b"AWS4-HMAC-SHA256 Credential=a"), (b"authorization", b"SignedHeaders=b")))
    assert refused.value.code == "authn.sigv4-incomplete"


def test_header_lines_are_trimmed_and_runs_collapse() -> None:
    fields = {b"host": b"h", b"note": b"  a   b\t c\r\n d ", b"other": b"x"}
    assert canonical_headers(fields, [(b"host", b"host:"), (b"note", b"note:")]) == b"host:h\nnote:a b c d\n"
    with pytest.raises(KeyError):
        canonical_headers(fields, [(b"absent", b"absent:")])


def test_request_is_six_parts_in_lines() -> None:
    canonical = canonical_request(
        method="GET", path=b"/", query=b"a=", headers=b"host:h\n", signed_headers=b"host", payload_hash=b"00"
    )
    assert canonical == b"GET\n/\na=\nhost:h\n\nhost\n00"
