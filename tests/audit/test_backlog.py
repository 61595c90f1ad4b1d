"""Held lines leave in order and byte for byte, however the writes are cut."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztproxy.audit.backlog import Backlog
from ztproxy.audit.seal import Sealer, genesis

SEALER = Sealer(genesis("c"))
LINES = [SEALER.seal(b'{"n":%d}' % number) for number in range(6)]


def backlog() -> Backlog:
    return Backlog(since=1.0, since_ms=1000)


@given(st.integers(0, len(LINES[0] + LINES[1]) - 1), st.lists(st.integers(1, 90), max_size=40), st.integers(1, 500))
@settings(max_examples=100)
def test_goes_on_after_the_last_byte_written(written: int, sizes: list[int], limit: int) -> None:
    held = backlog()
    held.hold(LINES[0] + LINES[1], written)
    for line in LINES[2:]:
        held.hold(line)
    out = bytearray((LINES[0] + LINES[1])[:written])
    cuts = iter(sizes)

    def write(data: memoryview) -> int:
        count = min(next(cuts, 10_000), len(data))
        out.extend(data[:count])
        return count

    while not held.drain(write, limit):
        assert held.first_seq is not None
    assert bytes(out) == b"".join(LINES)
    assert (held.size_bytes, held.first_seq) == (0, None)


def test_remembers_what_a_failing_write_took_before() -> None:
    held = backlog()
    held.hold(LINES[0])
    taken: list[bytes] = []
    room = iter([5])

    def write(data: memoryview) -> int:
        count = next(room, 0)
        if not count:
            raise OSError(errno.ENOSPC, "full")
        taken.append(bytes(data[:count]))
        return len(taken[-1])

    with pytest.raises(OSError, match="full"):
        held.drain(write, 1000)
    room = iter([1000])
    assert held.drain(write, 1000)
    assert b"".join(taken) == LINES[0]


def test_starts_the_torn_line_anew_for_a_new_segment() -> None:
    held = backlog()
    held.hold(LINES[0] + LINES[1], len(LINES[0]) + 7)
    held.restart()
    out = bytearray()
    assert held.first_seq == 2

    def write(data: memoryview) -> int:
        out.extend(data)
        return len(data)

    assert held.drain(write, 10_000)
    assert bytes(out) == LINES[1]


def test_holding_nothing_changes_nothing() -> None:
    held = backlog()
    held.hold(b"")
    held.hold(LINES[0], len(LINES[0]))
    assert (held.lines, held.size_bytes, held.first_seq) == (0, 0, None)


def test_tells_its_story() -> None:
    held = backlog()
    held.hold(LINES[0] + LINES[1])
    held.refused = 3
    held.note(OSError(errno.ENOSPC, "no space"), blocked=True)
    assert held.blocked
    assert held.facts(2000) == {
        "buffered": 2,
        "cause": "spool-failed",
        "error": "ENOSPC",
        "from": 1000,
        "refused": 3,
        "until": 2000,
    }
    held.note(OSError("odd"), blocked=False)
    assert held.error == "OSError"
