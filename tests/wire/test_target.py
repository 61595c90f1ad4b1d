"""The target rule: what is refused, the two rewrites, and that both ways through it agree."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ztproxy.errors import ProtocolError
from ztproxy.wire.target import (
    EMPTY_SEGMENTS,
    ENCODED_SLASHES,
    LONGEST_TARGET,
    NOTHING,
    SEMICOLONS,
    Target,
    _careful,
    canonical_target,
)

ALL = frozenset((SEMICOLONS, ENCODED_SLASHES, EMPTY_SEGMENTS))

PIECES = r"""/ / a B9 . .. -._~ %2e %2E %41 %7e %2f %5c %25 %20 %c3%A9 %00 %ef%bc%8e %e2%80%a5 %e2%80%8b ; %3b %3F
+ @ : % 2 e [ | \ *"""
PLAIN = rb"""/ /app /app/ /app/x? /a?b=/../c /.well-known/x /a./b..c/...d /a:b@c,(d)!$&'*+= /a?b=1?c=2 /a?%zz=%00
/a?b;c=%2e%2e"""

pieces = st.sampled_from(PIECES.split())
paths = st.lists(pieces, max_size=12).map(lambda parts: ("/" + "".join(parts)).encode())
plain_paths = st.from_regex(rb"/[A-Za-z0-9._~!$&'()*+,=:@/-]{0,30}", fullmatch=True)
queries = st.text(alphabet=[chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"#<>'], max_size=40)


def refused(raw: bytes, *, options: bool = False, allow: frozenset[str] = NOTHING) -> str:
    with pytest.raises(ProtocolError) as caught:
        canonical_target(raw, options=options, allow=allow)
    assert caught.value.code == "protocol.target"
    assert caught.value.public == f"the request target {caught.value.detail}"
    return caught.value.detail


@pytest.mark.parametrize(
    "raw",
    PLAIN.split(),
)
def test_a_plain_target_is_forwarded_as_it_came(raw: bytes) -> None:
    path, mark, query = raw.partition(b"?")
    assert canonical_target(raw) == Target(path.decode(), query if mark else None, raw)


@pytest.mark.parametrize(
    ("raw", "forward"),
    [
        (b"/%61%5A%30%2d%2E%5f%7e", b"/aZ0-._~"),
        (b"/x%2b%c3%a9%3f%23", b"/x%2B%C3%A9%3F%23"),
        (b"/x%25", b"/x%25"),
        (b"/x%25%7Az", b"/x%25zz"),
        (b"/%61?%61=%2f", b"/a?%61=%2f"),
        (b"/x%20y%20", b"/x%20y%20"),
        (b"/%E2%88%95..%E2%88%95x", b"/%E2%88%95..%E2%88%95x"),
        (b"/%EF%BC%9F%EF%BC%83", b"/%EF%BC%9F%EF%BC%83"),
        (b"/e%CC%81", b"/e%CC%81"),
        (b"/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB", b"/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB"),
    ],
)
def test_exactly_two_rewrites(raw: bytes, forward: bytes) -> None:
    target = canonical_target(raw)
    assert target.forward == forward
    assert target.path == forward.partition(b"?")[0].decode()


def test_characters_browsers_leave_raw() -> None:
    assert canonical_target(b"/a|b[c]?d={e}|[f]^`\\").forward == b"/a|b[c]?d={e}|[f]^`\\"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"/a/../b", "has a dot segment"),
        (b"/a/.", "has a dot segment"),
        (b"/a/%2e%2E/b", "has a dot segment"),
        (b"/a/.../b", "has a dot segment"),
        (b"/a/..%20/b", "has a dot segment"),
        (b"/a/%20.%20/b", "has a dot segment"),
        (b"/a/..%C2%A0/b", "has a dot segment"),
        (b"/a/.%E2%80%8B./b", "has a dot segment"),
        (b"/a/%EF%BC%8E%EF%BC%8E/b", "has a dot segment"),
        (b"/a/%E2%80%A5/b", "has a dot segment"),
        (b"/a/%E2%80%A4%E2%80%A4/b", "has a dot segment"),
        (b"/a/%EF%BC%8E%EF%BC%8E%EF%BC%8Fb", "has a dot segment"),
        (b"/a/..;/b", "has a dot segment"),
        (b"/a/..%3Bx/b", "has a dot segment"),
        (b"/a/..%2Fb", "has a dot segment"),
        (b"//a", "has an empty segment"),
        (b"/a//b", "has an empty segment"),
        (b"/a//", "has an empty segment"),
        (b"/a/%20/b", "has an empty segment"),
        (b"/a/%E2%80%83", "has an empty segment"),
        (b"/a%2Fb", "has an escaped slash"),
        (b"/a%2f", "has an escaped slash"),
        (b"/a%EF%BC%8Fb", "has an escaped slash"),
        (b"/a;b=c", "has a `;` in its path"),
        (b"/a%3bb", "has a `;` in its path"),
        (b"/a%EF%BC%9Bb", "has a `;` in its path"),
        (b"/a%5Cb", "has a backslash"),
        (b"/a%5c..%5cb", "has a backslash"),
        (b"/a%EF%BC%BCb", "has a backslash"),
        (b"/a%00", "has a control character"),
        (b"/a%0d%0aHost:x", "has a control character"),
        (b"/a%7F", "has a control character"),
        (b"/a%C2%85", "has a control character"),
        (b"/a%252e", "is escaped twice"),
        (b"/a%25%32%65", "is escaped twice"),
        (b"/a%25%EF%BC%94%EF%BC%91", "is escaped twice"),
        (b"/a%EF%BC%852e", "is escaped twice"),
        (b"/a%C0%AE", "has escapes that are not UTF-8"),
        (b"/a%FF", "has escapes that are not UTF-8"),
        (b"/a%ED%A0%80", "has escapes that are not UTF-8"),
        (b"/a%E2%80", "has escapes that are not UTF-8"),
        (b"/a#b", "has a fragment"),
        (b"/a?b#c", "has a fragment"),
        (b"http://h#x", "has a fragment"),
        (b"*", "is `*`, which only OPTIONS may ask for"),
        (b"", "is neither a path nor an http or https URI"),
        (b"a/b", "is neither a path nor an http or https URI"),
        (b"..", "is neither a path nor an http or https URI"),
        (b"*/a", "is neither a path nor an http or https URI"),
        (b"?a", "is neither a path nor an http or https URI"),
        (b"@admin.example.com/x", "is neither a path nor an http or https URI"),
        (b"example.com:443", "is neither a path nor an http or https URI"),
        (b"ftp://example.com/x", "is neither a path nor an http or https URI"),
        (b"https:/example.com/x", "is neither a path nor an http or https URI"),
    ],
)
def test_whatever_can_be_read_in_two_ways_is_refused(raw: bytes, why: str) -> None:
    assert refused(raw) == why


@pytest.mark.parametrize("path", [b"/%", b"/%2", b"/%zz", b"/%%30", b"/a\\b", b"/a b", b"/a\x00", b"/\xc3\xa9", b'/"'])
def test_bytes_no_path_may_hold(path: bytes) -> None:
    assert refused(path) == "has a byte in its path that no URI may hold, or a malformed escape"


@pytest.mark.parametrize("byte", [*range(0x21), *b'"<>', *range(0x7F, 0x100)])
def test_bytes_no_query_may_hold(byte: int) -> None:
    assert refused(b"/a?b" + bytes((byte,))) == "has a byte in its query that no URI may hold"


def test_a_line_end_behind_a_plain_target_is_no_part_of_it() -> None:
    for raw in (b"/a\n", b"/a?b\n", b"http://h/a\n"):
        assert "a byte in its" in refused(raw)


def test_the_longest_target() -> None:
    longest = b"/" + b"a" * (LONGEST_TARGET - 1)
    assert canonical_target(longest).forward == longest
    for too_long in (longest + b"a", b"/?" + longest):
        with pytest.raises(ProtocolError) as caught:
            canonical_target(too_long)
        assert caught.value.code == "protocol.target-size"


def test_the_asterisk_belongs_to_options() -> None:
    assert canonical_target(b"*", options=True) == Target("*", None, b"*")
    assert canonical_target(b"/a", options=True).path == "/a"


@pytest.mark.parametrize(
    ("raw", "authority", "forward"),
    [
        (b"http://example.com/a?b", b"example.com", b"/a?b"),
        (b"HTTPS://Example.com:8443/%61", b"Example.com:8443", b"/a"),
        (b"http://[::1]:80", b"[::1]:80", b"/"),
        (b"http://example.com?b", b"example.com", b"/?b"),
    ],
)
def test_the_absolute_form(raw: bytes, authority: bytes, forward: bytes) -> None:
    target = canonical_target(raw)
    assert (target.authority, target.forward) == (authority, forward)


@pytest.mark.parametrize("raw", [b"http://", b"http:///a", b"http://:80/a", b"http://u:p@example.com/", b"http://a b/"])
def test_the_absolute_form_needs_a_host_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        canonical_target(raw)
    assert caught.value.code == "protocol.host"


def test_the_absolute_form_obeys_the_same_rule() -> None:
    assert refused(b"http://example.com//a") == "has an empty segment"
    assert refused(b"http://example.com/../a") == "has a dot segment"


@pytest.mark.parametrize(
    ("raw", "forward", "uses"),
    [
        (b"/a;b=c/d", b"/a;b=c/d", {SEMICOLONS}),
        (b"/a%3bb", b"/a%3Bb", {SEMICOLONS}),
        (b"/a/;b", b"/a/;b", {SEMICOLONS, EMPTY_SEGMENTS}),
        (b"/a%2fb", b"/a%2Fb", {ENCODED_SLASHES}),
        (b"/a//b", b"/a//b", {EMPTY_SEGMENTS}),
        (b"///", b"///", {EMPTY_SEGMENTS}),
        (b"/a%2F%2Fb", b"/a%2F%2Fb", {EMPTY_SEGMENTS, ENCODED_SLASHES}),
        (b"/a", b"/a", set()),
    ],
)
def test_a_route_may_allow_some_by_name(raw: bytes, forward: bytes, uses: set[str]) -> None:
    target = canonical_target(raw, allow=ALL)
    assert target.forward == forward
    assert target.uses == uses
    for name in uses:
        refused(raw, allow=ALL - {name})


@pytest.mark.parametrize("raw", [b"/a/..;/b", b"/a/..%2Fb", b"/a//../b", b"/a%5Cb", b"/a%00", b"/%252f"])
def test_what_no_route_can_allow(raw: bytes) -> None:
    refused(raw, allow=ALL)


@given(st.one_of(paths, plain_paths))
@example(b"/%25%EF%BC%94%EF%BC%91")
@settings(max_examples=200, deadline=None)
def test_the_result_is_its_own_result(raw: bytes) -> None:
    for allow in (NOTHING, ALL):
        try:
            target = canonical_target(raw, allow=allow)
        except ProtocolError:
            continue
        assert canonical_target(target.forward, allow=allow) == target
        assert target.path.encode() == target.forward


@given(plain_paths, st.none() | queries.map(str.encode))
@settings(max_examples=200, deadline=None)
def test_both_ways_give_the_same_answer(path: bytes, query: bytes | None) -> None:
    def outcome(target: Target | ProtocolError) -> Target | str:
        return target if isinstance(target, Target) else target.detail

    raw = path if query is None else path + b"?" + query
    seen = []
    for way in (canonical_target, lambda raw: _careful(raw, False, NOTHING)):
        try:
            seen.append(outcome(way(raw)))
        except ProtocolError as error:
            seen.append(outcome(error))
    assert seen[0] == seen[1]


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"/" + tail) | paths)
@settings(max_examples=200, deadline=None)
def test_garbage_is_a_target_or_refused(raw: bytes) -> None:
    try:
        target = canonical_target(raw, allow=ALL)
    except ProtocolError:
        return
    assert target.path.startswith("/")
    assert target.forward.isascii()
    assert b" " not in target.forward


@pytest.mark.parametrize("byte", range(256))
def test_every_escape_of_one_byte(byte: int) -> None:
    raw = b"/x%%%02x" % byte
    if byte >= 0x80:
        assert refused(raw) == "has escapes that are not UTF-8"
    elif byte < 0x20 or byte == 0x7F:
        assert refused(raw) == "has a control character"
    elif byte in b"/;\\":
        refused(raw)
    elif chr(byte).isalnum() or byte in b"-._~":
        assert canonical_target(raw).path == "/x" + chr(byte)
    else:
        assert canonical_target(raw).path == f"/x%{byte:02X}"
