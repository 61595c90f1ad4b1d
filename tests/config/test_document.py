"""YAML is read without guessing, every value keeps its place, and hostile files get a line, never a traceback."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.config.document import MAX_DEPTH, Document, compose, dotted
from ztproxy.errors import ConfigError, Problem

TAB = "is not valid YAML: while scanning for the next token found character '\\t' that cannot start any token"


def refused(text: str) -> list[str]:
    """Every problem of `text` as `line:column: message`, however far the reading came."""
    try:
        document = compose("a.yaml", text)
    except ConfigError as error:
        return [f"{problem.line}:{problem.column}: {problem.message}" for problem in error.problems]
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in document.problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5", 5),
        ("0", 0),
        ("-7", -7),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("2012-10-17", "2012-10-17"),
        ("'0123'", "0123"),
        ('"null"', "null"),
        ("10.0.0.0/16", "10.0.0.0/16"),
        ("127.0.0.1:8443", "127.0.0.1:8443"),
        ("api://orders", "api://orders"),
        ("=", "="),
        ("/**", "/**"),
        ("1.2.3", "1.2.3"),
        (r'"😀"', "😀"),
        ("[a, [b]]", ("a", ("b",))),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_values_are_read_as_yaml_1_2_reads_them(written: str, meant: Any) -> None:
    document = compose("a.yaml", f"key: {written}\n")
    assert document.problems == ()
    assert document.data == {"key": meant}
    assert type(document.data["key"]) is type(meant)


@pytest.mark.parametrize(
    "written",
    [
        *("007", "012345678901", "-01", "0x1F", "0o17", "0b1", "1_000", "1:30", "190:20:30"),
        *("1e3", "1.5e3", ".5", "5.", ".inf", "-.INF", ".nan", "1234567890123456789", "1." + "0" * 16),
    ],
)
def test_numbers_that_readers_disagree_on_are_refused(written: str) -> None:
    said = "YAML readers disagree on this number; put text in quotes, write numbers in plain digits"
    assert refused(f"key: {written}\n") == [f"1:6: key: {said}"]


@pytest.mark.parametrize("written", ["", "~", "null", "Null", "NULL"])
def test_no_value_is_not_a_value(written: str) -> None:
    assert [line.partition(": ")[2] for line in refused(f"key: {written}\nother: 1\n")] == [
        "key: has no value; write one or remove the key"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the file is empty"),
        ("# only words\n", "1:1: the file is empty"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document begins here; a configuration is one"),
        ("a: &x 1\n", "1:4: a: anchors are not supported; write the value out where it is used"),
        ("a: !!str 1\n", "1:4: a: tags are not supported"),
        ("a: !!python/object/apply:os.system [ls]\n", "1:4: a: tags are not supported"),
        ("a: [b, 1\nc: 2\n", "2:2: is not valid YAML: while parsing a flow sequence expected ',' or ']', but got ':'"),
        ("a: b: c\n", "1:5: is not valid YAML: mapping values are not allowed here"),
        (
            "a:\n\tb: 1\n",
            f"2:1: {TAB}",
        ),
        (
            "{\n\t'a': 1}\n",
            f"2:1: {TAB}",
        ),
        ("a: 1\nb: \x00\n", "2:4: holds a character that YAML does not allow"),
        ("a: 1\na: 2\n", "2:1: a: written twice, first on line 1"),
        ("a: 1\na: {b: [1, {c: 2}], d: 3}\n", "2:1: a: written twice, first on line 1"),
        ("r:\n  - {x: 1, x: 2}\n", "2:12: r.0.x: written twice, first on line 2"),
        ("{a, b}: 1\n", "1:1: a key must be text"),
        ("? [a]\n: 1\n", "1:3: a key must be text"),
        ("&k a: 1\n", "1:1: anchors and tags are not supported on keys"),
        ("444455556666: 1\n", "1:1: the key `444455556666` must be in quotes"),
        ("true: 1\n", "1:1: the key `true` must be in quotes"),
        ('"a\\nb": 1\n', "1:1: a key holds a control character or a line break"),
        ('a: "\\x1b[31m"\n', "1:4: a: holds a control character or a line break"),
        ("a: |\n  two\n  lines\n", "1:4: a: holds a control character or a line break"),
        ('a: "\\ud83d"\n', "1:4: a: holds a control character or a line break"),
    ],
)
def test_what_is_refused_is_said_at_its_place(text: str, said: str) -> None:
    assert refused(text) == [said]


def test_aliases_and_merge_keys_are_refused_where_they_stand() -> None:
    assert refused("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n") == [
        "1:4: a: anchors are not supported; write the value out where it is used",
        "2:4: c: aliases are not supported; write the value out",
        "4:3: d: merge keys are not supported; write the values out",
        "4:7: d.<<: aliases are not supported; write the value out",
    ]


def test_an_anchor_bomb_is_not_unfolded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    document = compose("a.yaml", "\n".join(lines))
    assert len(document.problems) == 30 + 29 * 10
    assert len(document.values) < 1000


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth_is_bounded(opening: str) -> None:
    found = refused(opening * 100_000)
    assert len(found) == 1
    assert found[0].endswith(f": nested more than {MAX_DEPTH} levels deep")


def test_json_is_read_as_it_is_even_with_tabs() -> None:
    data = {"version": 1, "listeners": [{"name": "edge\\", "b/c": "\U0001f600 \u00e9", "on": True}]}
    for text in (json.dumps(data), json.dumps(data, indent="\t"), json.dumps(data, indent=2, ensure_ascii=False)):
        document = compose("a.json", text)
        assert document.problems == ()
        assert json.loads(json.dumps(document.data)) == data
    tabbed = compose("a.json", json.dumps(data, indent="\t"))
    assert tabbed.position(("listeners", 0, "on")) == (7, 10)


def test_tabs_in_what_only_looks_like_json_stay_an_error() -> None:
    assert len(refused("{\n\t" + "[" * 100_000)) == 1


def test_places_are_found_with_the_nearest_ancestor_for_what_is_absent() -> None:
    document = compose("a.yaml", "routes:\n  - name: orders\n    limits: {body_bytes: 5}\n")
    assert document.position(("routes", 0, "limits", "body_bytes")) == (3, 26)
    assert document.position(("routes", 0, "limits", "body_bytes"), key=True) == (3, 14)
    assert document.position(("routes", 0, "limits", "rate"), key=True) == (3, 13)
    assert document.position(("routes", 0, "host")) == (2, 5)
    assert document.position(("version",)) == (1, 1)
    assert Document(file="x", data={}, values={}, keys={}).position(("a",)) == (1, 1)


def test_problem_carries_its_path() -> None:
    document = compose("a.yaml", "a: {b: 1}\n")
    assert document.problem(("a", "b"), "is odd") == Problem("a.yaml", 1, 8, "a.b: is odd")
    assert document.problem((), "is odd") == Problem("a.yaml", 1, 1, "is odd")
    assert dotted(("k" * 500, 0)) == "k" * 64 + ".0"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!|>'\"%@`#,? \n\t<0~.")), max_size=60))
def test_any_text_gives_a_document_or_a_config_error(text: str) -> None:
    assert all(re.match(r"[1-9]\d*:[1-9]\d*: ", line) for line in refused(text))


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
        max_leaves=12,
    ).map(lambda value: {"root": value})
)
def test_any_json_is_read_as_json_reads_it(data: Any) -> None:
    document = compose("a.json", json.dumps(data))
    assert document.problems == ()
    assert json.loads(json.dumps(document.data)) == data
