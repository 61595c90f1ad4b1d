"""IAM's patterns: reading, resolving, and the three ways of matching, which must agree."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.authz import glob
from ztproxy.authz.glob import Variable, Wild


def static(pattern: str) -> glob.Resolved:
    tokens = glob.fixed(glob.read(pattern, wildcards=True, variables=False))
    assert tokens is not None
    return tokens


@pytest.mark.parametrize(
    ("text", "wildcards", "variables", "tokens"),
    [
        ("", True, True, ()),
        ("a*b?", True, True, ("a", Wild.ANY, "b", Wild.ONE)),
        ("a*b?", False, True, ("a*b?",)),
        ("${*}${?}${$}x", True, True, ("*?$x",)),
        ("${*}", True, False, ("${", Wild.ANY, "}")),
        ("h/${aws:username}/*", True, True, ("h/", Variable("aws:username"), "/", Wild.ANY)),
        ("${aws:username, 'no one'}", True, True, (Variable("aws:username", "no one"),)),
        ("${aws:username}", True, False, ("${aws:username}",)),
        ("$5 {x}", True, True, ("$5 {x}",)),
    ],
)
def test_reading(text: str, wildcards: bool, variables: bool, tokens: glob.Template) -> None:
    assert glob.read(text, wildcards=wildcards, variables=variables) == tokens


@pytest.mark.parametrize("text", ["a${aws:user", "${}", "${user}", "${aws:a 'x'}", "${aws:a, x}"])
def test_a_variable_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="variable"):
        glob.read(text, wildcards=True, variables=True)


def test_a_value_put_in_is_literal() -> None:
    template = glob.read("home/${aws:username}", wildcards=True, variables=True)
    tokens = glob.resolve(template, lambda _: "*")
    assert tokens is not None
    assert glob.matches(tokens, "home/*")
    assert not glob.matches(tokens, "home/ada")
    assert glob.fixed(template) is None


@pytest.mark.parametrize(
    ("pattern", "value", "text"),
    [
        ("${aws:username}", "ada", "ada"),
        ("${aws:username}", None, None),
        ("${aws:username}", "", None),
        ("${aws:username, 'x'}", None, "x"),
        ("${aws:username, ''}", None, None),
        ("${aws:username, 'x'}*", "ada", "ada*"),
    ],
)
def test_resolving(pattern: str, value: str | None, text: str | None) -> None:
    tokens = glob.resolve(glob.read(pattern, wildcards=True, variables=True), lambda _: value)
    assert (None if tokens is None else glob.text(tokens)) == text


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a/b:c\n", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("?b", "ab", True),
        ("a*", "b", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*a*a", "aa", True),
        ("a**b", "ab", True),
        ("*ab?d", "abxdabyd", True),
        ("a.c", "abc", False),
        ("a*", "a", True),
        ("ab", "abc", False),
    ],
)
def test_matching(pattern: str, subject: str, fits: bool) -> None:
    tokens = static(pattern)
    assert glob.matches(tokens, subject) is fits
    assert (re.fullmatch(glob.expression(tokens), subject, re.DOTALL) is not None) is fits
    assert glob.like([tokens])(subject) is fits


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab*?", max_size=6), min_size=1, max_size=3), st.text("ab\n", max_size=8))
def test_all_ways_agree_with_backtracking(patterns: list[str], subject: str) -> None:
    """The oracle goes back past stars, which ours never does."""
    slow = [re.escape(one).replace(r"\*", ".*").replace(r"\?", ".") for one in patterns]
    expected = [re.fullmatch(one, subject, re.DOTALL) is not None for one in slow]
    assert [glob.matches(static(one), subject) for one in patterns] == expected
    assert glob.like([static(one) for one in patterns])(subject) is any(expected)


def test_no_pattern_matches_nothing() -> None:
    assert glob.like([])("") is False


def test_hostile_patterns_take_linear_time() -> None:
    tokens = static("*a" * 30 + "b")
    fits = glob.like([tokens])
    began = time.perf_counter()
    assert not fits("a" * 20_000)
    assert time.perf_counter() - began < 1.0
