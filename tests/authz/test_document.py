"""Text with places: nothing is interpreted, nothing is expanded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.authz.document import DEPTH, Listing, Mapping, Node, Scalar, compose
from ztproxy.errors import ConfigError


def plain(node: Node) -> Any:
    if isinstance(node, Scalar):
        return None if node.null else node.text
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.pairs}


def read(text: str) -> Any:
    return plain(compose(text, file="p.yaml"))


@pytest.mark.parametrize(
    "written",
    [
        "on",
        "off",
        "yes",
        "No",
        "true",
        "2012-10-17",
        "012345678901",
        "111122223333",
        "0x1F",
        "1e3",
        "12:30:45",
        ".inf",
        "1_000",
    ],
)
def test_a_scalar_stays_the_text_that_was_written(written: str) -> None:
    assert read(f"key: {written}") == {"key": written}
    assert read(f"- {written}") == [written]


@pytest.mark.parametrize("written", ["", "~", "null", "NULL"])
def test_nothing_is_nothing(written: str) -> None:
    assert read(f"key: {written}") == {"key": None}
    assert read(f'key: "{written}"') == {"key": written}


def test_places_count_from_one() -> None:
    root = compose("a:\n  - b: c\n", file="p.yaml")
    assert isinstance(root, Mapping)
    key, listing = root.pairs[0]
    assert (key.line, key.column) == (1, 1)
    assert isinstance(listing, Listing)
    inner = listing.items[0]
    assert isinstance(inner, Mapping)
    assert (inner.pairs[0][1].line, inner.pairs[0][1].column) == (2, 8)


def test_duplicates_are_kept_for_the_reader_to_refuse() -> None:
    root = compose('{"a": 1, "a": 2}', file="p.json")
    assert isinstance(root, Mapping)
    assert [(key.text, plain(value)) for key, value in root.pairs] == [("a", "1"), ("a", "2")]


def test_json_may_be_indented_with_tabs() -> None:
    assert read('\n{\n\t"a":\t["b\\t\\"c", 1, true],\n\t"d\te": null\n}') == {"a": ['b\t"c', "1", "true"], "d\te": None}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("a: [1, 2}", 1, 9, "not valid YAML or JSON"),
        ("a: b\n c: d", 2, 3, "not valid YAML or JSON"),
        ("a: \x00", 1, 1, "not valid YAML or JSON"),
        ("a: 1\n---\nb: 2", 2, 1, "one document is expected"),
        ("a: &x 1\n", 1, 4, "anchors and aliases"),
        ("a: [*x]", 1, 5, "anchors and aliases"),
        ("a: !!python/name:os.system x", 1, 4, "is not accepted"),
        ("a: !secret x", 1, 4, "the tag `!secret` is not accepted"),
        ("[a]: b", 1, 1, "a key must be a text"),
        ("[" * (DEPTH + 2) + "]" * (DEPTH + 2), 1, DEPTH + 2, "levels deep"),
    ],
)
def test_what_is_refused(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose(text, file="p.yaml")
    problem = raised.value.problems[0]
    assert message in problem.message
    assert (problem.file, problem.line) == ("p.yaml", line)
    assert problem.column == column


json_texts = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f"), max_size=8
).filter(lambda text: not any("\x7f" <= one <= "\xa0" or one in "\u2028\u2029" for one in text))
json_values: st.SearchStrategy[Any] = st.recursive(
    json_texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3), max_leaves=8
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(json_texts, json_values, min_size=1, max_size=3), st.sampled_from([None, 1, "\t"]))
def test_json_means_what_it_means(value: dict[str, Any], indent: int | str | None) -> None:
    assert read(json.dumps(value, indent=indent)) == value
    assert read(json.dumps(value, indent=indent, ensure_ascii=False)) == value


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    try:
        tree = compose(text, file="p.yaml")
    except ConfigError:
        return
    assert isinstance(tree, Scalar | Listing | Mapping)
