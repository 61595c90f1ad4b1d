"""Which route is chosen, and that neither their order nor their number matters."""

from __future__ import annotations

import random
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.routing import RouteTable, conflicts, pattern_problem
from ztproxy.types import AuthenticationRule, Route


def route(host: str, path: str, name: str = "") -> Route:
    return Route(
        name=name or host + path,
        host=host,
        path=path,
        arn="arn:aws:execute-api:eu-west-1:111122223333:orders/prod",
        account="111122223333",
        upstream="orders",
        authenticate=AuthenticationRule(any_of=("corp",)),
    )


def chosen(table: RouteTable, host: str, path: str) -> str | None:
    found = table.match(host, path)
    return None if found is None else found.name


def table(*patterns: str, host: str = "a.example.com") -> RouteTable:
    return RouteTable([route(host, pattern, pattern) for pattern in patterns])


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["/"], "/", "/"),
        (["/"], "/a", None),
        (["/a"], "/a", "/a"),
        (["/a"], "/a/", None),
        (["/a/"], "/a/", "/a/"),
        (["/a/"], "/a", None),
        (["/a"], "/A", None),
        (["/**"], "/", "/**"),
        (["/**"], "/a/b/", "/**"),
        (["/a/**"], "/a", "/a/**"),
        (["/a/**"], "/a/", "/a/**"),
        (["/a/**"], "/a/b", "/a/**"),
        (["/a/**"], "/a/b/c/", "/a/**"),
        (["/a/**"], "/ab", None),
        (["/a/**"], "/", None),
        (["/a/*"], "/a/b", "/a/*"),
        (["/a/*"], "/a/", None),
        (["/a/*"], "/a", None),
        (["/a/*"], "/a/b/c", None),
        (["/a/*/"], "/a/b/", "/a/*/"),
        (["/a/*/c"], "/a/b/c", "/a/*/c"),
        (["/a/*/c"], "/a/b/d", None),
        (["/*"], "/*", "/*"),
        (["/a/%2A"], "/a/%2A", "/a/%2A"),
        (["/a/b", "/a/*", "/a/**", "/**"], "/a/b", "/a/b"),
        (["/a/b", "/a/*", "/a/**", "/**"], "/a/c", "/a/*"),
        (["/a/b", "/a/*", "/a/**", "/**"], "/a/c/d", "/a/**"),
        (["/a/b", "/a/*", "/a/**", "/**"], "/a/b/c", "/a/**"),
        (["/a/b", "/a/*", "/a/**", "/**"], "/b", "/**"),
        (["/a", "/a/**"], "/a", "/a"),
        (["/a/**", "/*/b"], "/a/b", "/a/**"),
        (["/a/b/c", "/*/b/d"], "/a/b/d", "/*/b/d"),
        (["/a/b/c", "/*/b/d"], "/a/b/e", None),
        (["/a/b/c", "/*/b/**", "/**"], "/a/b", "/*/b/**"),
        (["/a/*/c", "/a/b/**"], "/a/b/c", "/a/b/**"),
        (["/a/*/c", "/a/**"], "/a/x/d", "/a/**"),
    ],
)
def test_the_most_specific_path_wins(patterns: list[str], path: str, expected: str | None) -> None:
    for order in (patterns, patterns[::-1]):
        assert chosen(table(*order), "a.example.com", path) == expected


@pytest.mark.parametrize(
    ("hosts", "host", "expected"),
    [
        (["a.example.com"], "a.example.com", "a.example.com"),
        (["a.example.com"], "b.example.com", None),
        (["*"], "b.example.com", "*"),
        (["*.example.com"], "b.example.com", "*.example.com"),
        (["*.example.com"], "c.b.example.com", "*.example.com"),
        (["*.example.com"], "example.com", None),
        (["*.example.com"], "badexample.com", None),
        (["*.example.com"], "*.example.com.evil.com", None),
        (["a.example.com", "*.example.com", "*"], "a.example.com", "a.example.com"),
        (["a.example.com", "*.example.com", "*"], "b.example.com", "*.example.com"),
        (["a.example.com", "*.example.com", "*"], "b.example.org", "*"),
        (["*.example.com", "*.b.example.com"], "c.b.example.com", "*.b.example.com"),
        (["*.com", "*.example.com"], "b.example.com", "*.example.com"),
        (["[::1]", "*"], "[::1]", "[::1]"),
        (["*.example.com"], "", None),
    ],
)
def test_the_most_specific_host_wins(hosts: list[str], host: str, expected: str | None) -> None:
    for order in (hosts, hosts[::-1]):
        assert chosen(RouteTable([route(one, "/**", one) for one in order]), host, "/x") == expected


def test_a_less_specific_host_answers_where_the_others_have_no_path() -> None:
    routes = RouteTable([route("a.example.com", "/a"), route("*.example.com", "/b"), route("*", "/**")])
    assert chosen(routes, "a.example.com", "/a") == "a.example.com/a"
    assert chosen(routes, "a.example.com", "/b") == "*.example.com/b"
    assert chosen(routes, "a.example.com", "/c") == "*/**"
    assert chosen(RouteTable([route("a.example.com", "/a")]), "a.example.com", "/c") is None
    assert chosen(RouteTable([]), "a.example.com", "/") is None


segments = st.sampled_from(["a", "b", "c"])
patterns_made = st.builds(
    lambda inner, last: "/" + "/".join([*inner, last]),
    st.lists(st.sampled_from(["a", "b", "*"]), max_size=3),
    st.sampled_from(["a", "b", "*", "**", ""]),
)


def obvious(patterns: list[str], path: str) -> str | None:
    """All patterns that match, the most specific first: at each segment, literal before `*` before `**`."""
    rank = {"*": 1, "**": 2}

    def matches(pattern: list[str], asked: list[str]) -> bool:
        if pattern == ["**"]:
            return True
        if not pattern or not asked:
            return not pattern and not asked
        return (pattern[0] == asked[0] or (pattern[0] == "*" and asked[0] != "")) and matches(pattern[1:], asked[1:])

    asked = path.split("/")[1:]
    fitting = [one for one in patterns if matches(one.split("/")[1:], asked)]
    # A pattern that ends where the path does is more specific than the same with `**` behind it.
    return min(fitting, key=lambda one: [rank.get(segment, 0) for segment in one.split("/")[1:]], default=None)


@given(st.lists(patterns_made, max_size=8, unique=True), st.lists(segments, max_size=4), st.booleans(), st.randoms())
@settings(max_examples=200, deadline=None)
def test_it_agrees_with_the_obvious_way(
    patterns: list[str], asked: list[str], slash: bool, shuffler: random.Random
) -> None:
    path = "/" + "/".join(asked) + ("/" if slash and asked else "")
    expected = obvious(patterns, path)
    shuffler.shuffle(patterns)
    assert chosen(table(*patterns), "a.example.com", path) == expected


def test_routes_that_cannot_both_be_chosen_are_named() -> None:
    routes = [
        route("a.example.com", "/a", "one"),
        route("a.example.com", "/a/", "two"),
        route("b.example.com", "/a", "three"),
        route("a.example.com", "/a", "four"),
        route("*", "/**", "five"),
        route("*", "/**", "six"),
    ]
    assert conflicts(routes[:3]) == []
    assert conflicts(routes) == [
        ("one", "four", "both answer for host `a.example.com` and path `/a`"),
        ("five", "six", "both answer for host `*` and path `/**`"),
    ]
    for pair in ([routes[0], routes[3]], routes[4:]):
        with pytest.raises(ValueError, match="have the same host and path"):
            RouteTable(pair)


@pytest.mark.parametrize(
    "pattern", ["/", "/**", "/a", "/a/", "/a/**", "/*/b", "/a/*/c/", "/%2A", "/%C3%A9", "/.well-known/*", "/a/*/**"]
)
def test_patterns_that_can_match(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "must start with `/`"),
        ("a", "must start with `/`"),
        ("**", "must start with `/`"),
        ("/é", "must be visible ASCII; escape anything else (`%C3%A9`)"),
        ("/a b", "must be visible ASCII; escape anything else (`%C3%A9`)"),
        ("/a\n", "must be visible ASCII; escape anything else (`%C3%A9`)"),
        ("/**/a", "`**` must be the last segment"),
        ("/**/", "`**` must be the last segment"),
        ("/a*", "`*` must be a whole segment; a literal asterisk is written `%2A`"),
        ("/***", "`*` must be a whole segment; a literal asterisk is written `%2A`"),
        ("/a?b", "must not have a query: paths alone are matched"),
        ("/%61", "must be canonical: `/a`"),
        ("/%c3%a9", "must be canonical: `/%C3%A9`"),
        ("//", "can never match: a path that has an empty segment is refused"),
        ("/a//b", "can never match: a path that has an empty segment is refused"),
        ("/a/../b", "can never match: a path that has a dot segment is refused"),
        ("/a;b", "can never match: a path that has a `;` in its path is refused"),
        ("/a#b", "can never match: a path that has a fragment is refused"),
    ],
)
def test_patterns_that_cannot(pattern: str, problem: str) -> None:
    assert pattern_problem(pattern) == problem


def test_the_cost_does_not_grow_with_the_number_of_routes() -> None:
    def cost(count: int) -> float:
        many = [route("a.example.com", f"/service{number}/*/items/**") for number in range(count)]
        many += [route(f"h{number}.example.com", "/**") for number in range(count)]
        routes = RouteTable([*many, route("*", "/**")])
        return min(timeit.repeat(lambda: routes.match("a.example.com", "/service1/x/items/42"), number=500, repeat=5))

    few, many = cost(10), cost(2000)
    assert many < 3 * few  # a scan would be some two hundred times slower
