"""Canonical bytes against RFC 8785's own rules, and the chain against its written definition."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.audit.seal import (
    BODY_BYTES_MAX,
    INTEGER_MAX,
    LINE_BYTES_MAX,
    NotCanonical,
    Position,
    Sealer,
    canonical,
    cut,
    genesis,
    link,
    verify_lines,
)

CHAIN = "c0ffee"
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


def jcs(value: Any) -> bytes:
    """RFC 8785 §3.2 by the standard library, for values without floats and with ASCII keys."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def sealed(*bodies: bytes, chain: str = CHAIN) -> list[bytes]:
    sealer = Sealer(genesis(chain))
    return [sealer.seal(body) for body in bodies]


class TestCanonical:
    @given(values)
    @settings(max_examples=150)
    def test_equals_the_reference(self, value: Any) -> None:
        assert canonical(value) == jcs(value)

    @given(values)
    @settings(max_examples=50)
    def test_is_a_fixed_point(self, value: Any) -> None:
        assert canonical(orjson.loads(canonical(value))) == canonical(value)

    def test_escapes_every_character_as_section_3_2_2_2_says(self) -> None:
        for point in range(0x0, 0x300):
            short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
            expected = short.get(point, f"\\u{point:04x}" if point < 0x20 else chr(point))
            assert canonical(chr(point)) == f'"{expected}"'.encode()

    def test_sorts_keys_at_every_depth(self) -> None:
        assert canonical({"b": [{"z": 1, "a": 2}], "a": {"y": None, "x": True}}) == (
            b'{"a":{"x":true,"y":null},"b":[{"a":2,"z":1}]}'
        )

    def test_takes_fragments_as_they_are(self) -> None:
        assert canonical({"b": orjson.Fragment(b'{"x":1}'), "a": (1,)}) == b'{"a":[1],"b":{"x":1}}'

    @pytest.mark.parametrize("edge", [INTEGER_MAX, -INTEGER_MAX, 0])
    def test_takes_integers_a_double_holds(self, edge: int) -> None:
        assert canonical([edge]) == b"[%d]" % edge

    @pytest.mark.parametrize(
        "value",
        [
            1.0,
            float("nan"),
            INTEGER_MAX + 1,
            -INTEGER_MAX - 1,
            {"é": 1},
            {1: 1},
            {"a": [0.5]},
            "\ud800",
            b"bytes",
            {"a": object()},
            {"s"},
        ],
    )
    def test_refuses_what_has_no_agreed_form(self, value: Any) -> None:
        with pytest.raises(NotCanonical):
            canonical(value)


class TestChain:
    def test_follows_its_written_definition(self) -> None:
        first, second = sealed(b'{"a":1}', b'{"b":2}')
        h0 = hashlib.sha256(b"ztproxy-audit/1\0c0ffee\x000\0\0").hexdigest()
        h1 = hashlib.sha256(b"ztproxy-audit/1\0c0ffee\x001\0" + h0.encode() + b'\0{"a":1}').hexdigest()
        h2 = hashlib.sha256(b"ztproxy-audit/1\0c0ffee\x002\0" + h1.encode() + b'\0{"b":2}').hexdigest()
        assert first == f'{{"body":{{"a":1}},"chain":"c0ffee","hash":"{h1}","prev":"{h0}","seq":1}}\n'.encode()
        assert second == f'{{"body":{{"b":2}},"chain":"c0ffee","hash":"{h2}","prev":"{h1}","seq":2}}\n'.encode()

    def test_lines_are_canonical_json_themselves(self) -> None:
        (line,) = sealed(canonical({"text": 'a"},"chain":"x\n', "n": 1}))
        assert jcs(json.loads(line)) + b"\n" == line

    def test_position_moves_with_each_record(self) -> None:
        sealer = Sealer(genesis(CHAIN))
        line = cut(sealer.seal(b"{}")[:-1])
        assert line is not None
        assert sealer.position == Position(chain=CHAIN, seq=1, head=line.hash)

    @pytest.mark.parametrize("chain", ["", "-a", "a-", "A", "a" * 65, "a/b", "a\n", "é", 'a"', "a\0"])
    def test_refuses_chain_ids_that_could_be_misread(self, chain: str) -> None:
        with pytest.raises(ValueError, match="chain id"):
            genesis(chain)

    @pytest.mark.parametrize("chain", ["a", "a" * 64, "node-1-worker-0"])
    def test_takes_plain_chain_ids(self, chain: str) -> None:
        assert cut(sealed(b"{}", chain=chain)[0][:-1]) is not None

    @pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"a":\n1}', b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}'])
    def test_refuses_bodies_no_line_holds_and_does_not_move(self, body: bytes) -> None:
        sealer = Sealer(genesis(CHAIN))
        with pytest.raises(ValueError, match="canonical JSON object"):
            sealer.seal(body)
        assert sealer.position == genesis(CHAIN)

    def test_no_sealed_line_is_longer_than_promised(self) -> None:
        body = b'{"a":"' + b"x" * (BODY_BYTES_MAX - 8) + b'"}'
        line = Sealer(Position(chain="c" * 64, seq=10**16 - 2, head=b"0" * 64)).seal(body)
        assert len(body) == BODY_BYTES_MAX
        assert len(line) <= LINE_BYTES_MAX
        assert cut(line[:-1]) is not None

    def test_inputs_cannot_be_shifted_into_each_other(self) -> None:
        assert link("a", 11, b"", b"{}") != link("a1", 1, b"", b"{}")
        assert link("a", 1, b"1", b"{}") != link("a", 11, b"", b"{}")


class TestCut:
    def test_takes_a_line_apart(self) -> None:
        line = cut(sealed(b'{"x":"\\",\\"chain\\":\\"y\\""}')[0][:-1])
        assert line is not None
        assert (line.body, line.chain, line.seq) == (b'{"x":"\\",\\"chain\\":\\"y\\""}', CHAIN, 1)
        assert line.prev == genesis(CHAIN).head
        assert line.consistent

    def test_a_flipped_byte_is_not_consistent(self) -> None:
        line = cut(sealed(b'{"x":1}')[0][:-1].replace(b'"x"', b'"y"'))
        assert line is not None
        assert not line.consistent

    @pytest.mark.parametrize("line", [b"", b"{}", b'{"body":{}}', b"{" * (LINE_BYTES_MAX + 1)])
    def test_other_lines_are_none(self, line: bytes) -> None:
        assert cut(line) is None


LINES = [line[:-1] for line in sealed(b'{"n":1}', b'{"n":2}', b'{"n":3}')]


class TestVerifyLines:
    def test_follows_a_whole_chain(self) -> None:
        after = verify_lines(LINES, genesis(CHAIN))
        last = cut(LINES[-1])
        assert last is not None
        assert after == Position(chain=CHAIN, seq=3, head=last.hash)

    def test_stops_before_the_first_line_that_does_not_follow(self) -> None:
        first, second, third = LINES
        assert verify_lines([first, third, second], genesis(CHAIN)).seq == 1
        assert verify_lines([second], genesis(CHAIN)) == genesis(CHAIN)
        assert verify_lines([], genesis(CHAIN)).seq == 0
        assert verify_lines([first], genesis("other")).seq == 0

    def test_finds_every_flipped_bit_of_a_line(self) -> None:
        first, second, _ = LINES
        after = verify_lines([first], genesis(CHAIN))
        for index in range(len(second)):
            for bit in range(8):
                flipped = bytearray(second)
                flipped[index] ^= 1 << bit
                assert verify_lines([bytes(flipped)], after) == after

    @given(st.binary(max_size=300))
    @settings(max_examples=100)
    def test_garbage_never_follows(self, line: bytes) -> None:
        assert verify_lines([line], genesis(CHAIN)).seq == 0
