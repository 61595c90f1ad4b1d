"""S02: no query and no fragment ever changes which path is routed and judged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_routing import route
from ztproxy.errors import ProtocolError
from ztproxy.routing import RouteTable
from ztproxy.wire.target import canonical_target

ROUTES = RouteTable([route("*", pattern, pattern) for pattern in ("/", "/public/**", "/admin/**", "/*/x")])
PATHS = [b"/", b"/public/a", b"/admin", b"/admin/%61", b"/a/x", b"/nothing", b"http://app.example.com/admin/x"]

queries = st.one_of(
    st.text(alphabet=[chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"#<>'], max_size=60),
    st.sampled_from(
        ["/public/a", "/../public", "?/public/", "%23", "%3f/admin", ";/admin", "//", "\\admin", "a=/admin"]
    ),
)


@pytest.mark.parametrize("path", PATHS)
@given(query=queries)
@settings(max_examples=60, deadline=None)
def test_adding_any_query_changes_neither_path_nor_route(path: bytes, query: str) -> None:
    bare = canonical_target(path)
    target = canonical_target(path + b"?" + query.encode("ascii"))
    assert target.path == bare.path
    assert ROUTES.match("app.example.com", target.path) is ROUTES.match("app.example.com", bare.path)
    assert target.query == query.encode("ascii")
    assert target.forward == bare.forward + b"?" + query.encode("ascii")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tail", [b"#", b"#x", b"?#", b"?a=b#c", b"#?a", b"#/public/x", b"?a#/../x"])
def test_a_fragment_is_refused(path: bytes, tail: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        canonical_target(path + tail)
    assert (caught.value.code, caught.value.detail) == ("protocol.target", "has a fragment")


@pytest.mark.parametrize("escaped", [b"/admin%3Fa=/public/x", b"/admin%23/public/x"])
def test_an_escaped_mark_stays_part_of_the_path(escaped: bytes) -> None:
    target = canonical_target(escaped)
    assert (target.query, target.forward) == (None, escaped)
    assert ROUTES.match("app.example.com", target.path) is None
