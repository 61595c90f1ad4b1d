"""Is the spool what was sealed? Every record in its place, and if not, which one and in what way.

The fast path asks of each line whether sealing its body at this place of the chain gives this very line. Where it does
not, the line is taken apart: one whose hash does not fit its own fields was *changed* or is foreign (*inserted*), told
apart by whether its number is missing afterwards; one that is sealed in itself but stands at the wrong place was
*reordered*, *duplicated* or belongs to another history (*forked*); numbers nobody carries were *removed*.

What cannot be seen from inside: records missing at the very end, a whole chain missing, and a chain sealed anew from
its first record, for the chain needs no secret. All three show against one copy of a head kept elsewhere; `TAIL_NOTE`
is part of every report.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from ztproxy.audit.seal import Position, SealedLine, cut, genesis, verify_lines
from ztproxy.audit.spool import Segment, list_segments, read_lines

FAULTS_LISTED: Final = 20
_GAPS_MAX: Final = 1000
"""Gaps remembered in case their records turn up later."""
_PATIENCE: Final = 2
_SETTLE_S: Final = 0.02
"""How often, and how long apart, an unfinished last line is read again before it counts as torn."""
TAIL_NOTE: Final = (
    "records removed from the very end, or a chain sealed anew as a whole, "
    "can only be shown against a head kept elsewhere"
)


class FaultKind(Enum):
    """What is wrong at a place."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    FORKED = "forked"
    TRUNCATED = "truncated"
    MISSING_SEGMENT = "missing-segment"
    RENAMED_SEGMENT = "renamed-segment"
    TORN_TAIL = "torn-tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong; `line` counts from 1 in its segment, `seq` is the record meant."""

    kind: FaultKind
    segment: str
    line: int
    seq: int
    message: str

    def __str__(self) -> str:
        return f"{self.segment}:{self.line}: {self.kind.value}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """How far one chain was followed; `head` is what to compare with a copy kept elsewhere."""

    chain: str
    segments: int
    records: int
    last_seq: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer about one spool: the first fault of each kind and as many others as fit, all counted."""

    chains: tuple[ChainReport, ...]
    size_bytes: int
    faults: tuple[Fault, ...]
    counts: tuple[tuple[FaultKind, int], ...]

    @property
    def intact(self) -> bool:
        """Whether there was something to verify and nothing is wrong with it."""
        return bool(self.chains) and not self.counts

    @property
    def records(self) -> int:
        """Sealed records seen at their place, over all chains."""
        return sum(chain.records for chain in self.chains)


def verify(spool_dir: Path) -> Report:
    """Read every segment once and say whether its chains hold; memory does not grow with the spool.

    Raises: `OSError` where the spool cannot be read.
    """
    chains: dict[str, list[Segment]] = {}
    for segment in list_segments(spool_dir):
        chains.setdefault(segment.chain, []).append(segment)
    faults = _Faults()
    walks = []
    for segments in chains.values():
        walk = _Walk(segments, faults)
        walk.run()
        walks.append(walk)
    return Report(
        chains=tuple(walk.report() for walk in walks),
        size_bytes=sum(walk.size_bytes for walk in walks),
        faults=tuple(faults.listed),
        counts=tuple(faults.counts.items()),
    )


class _Faults:
    def __init__(self) -> None:
        self.counts: Counter[FaultKind] = Counter()
        self.listed: list[Fault] = []

    def add(self, kind: FaultKind, place: _Place, seq: int, message: str, number: int = 1) -> None:
        if len(self.listed) < FAULTS_LISTED or kind not in self.counts:
            self.listed.append(Fault(kind=kind, segment=place.segment, line=place.line, seq=seq, message=message))
        self.count(kind, number)

    def count(self, kind: FaultKind, number: int) -> None:
        if number:
            self.counts[kind] += number


@dataclass(frozen=True, slots=True)
class _Place:
    segment: str
    line: int


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    place: _Place
    segment_start: bool


class _Walk:
    """One chain followed from its first segment to its last."""

    def __init__(self, segments: list[Segment], faults: _Faults) -> None:
        self._segments: Final = segments
        self._faults: Final = faults
        self._position = genesis(segments[0].chain)
        self._unfit: list[_Place] = []
        """The first lines not sealed in themselves since the last good one."""
        self._unfit_count = 0
        self._gaps: list[_Gap] = []
        self.records = 0
        self.size_bytes = 0

    def report(self) -> ChainReport:
        return ChainReport(
            chain=self._position.chain,
            segments=len(self._segments),
            records=self.records,
            last_seq=self._position.seq,
            head=self._position.head.decode(),
        )

    def run(self) -> None:
        for segment in self._segments:
            self._segment(segment, last=segment is self._segments[-1])
        self._explain_unfit(missing=self._unfit_count)
        for gap in self._gaps:
            self._report_gap(gap)

    def _segment(self, segment: Segment, *, last: bool) -> None:
        number = 0
        rest = b""
        for lines, rest in _settled_lines(segment.path, last=last):  # noqa: B007
            self.size_bytes += len(lines) + sum(map(len, lines))
            start = 0
            while start < len(lines):
                before = self._position.seq
                if not self._unfit and (number or start or segment.first_seq == before + 1):
                    self._position = verify_lines(lines[start:] if start else lines, self._position)
                    good = self._position.seq - before
                    self.records += good
                    start += good
                if start < len(lines):
                    self._misfit(lines[start], _Place(segment.path.name, number + start + 1), segment)
                    start += 1
            number += len(lines)
        if rest:
            self.size_bytes += len(rest)
            place = _Place(segment.path.name, number + 1)
            if last:
                note = (
                    f"{len(rest)} bytes of an unfinished line; a crash leaves this, the next start cuts it and says so"
                )
                self._faults.add(FaultKind.TORN_TAIL, place, self._position.seq + 1, note)
            else:
                note = "the segment ends in the middle of a line, though others follow it"
                self._faults.add(FaultKind.TRUNCATED, place, self._position.seq + 1, note)

    def _misfit(self, line: bytes, place: _Place, segment: Segment) -> None:
        sealed = cut(line)
        if sealed is None or sealed.chain != self._position.chain or not sealed.consistent:
            self._unfit_count += 1
            if len(self._unfit) < FAULTS_LISTED:
                self._unfit.append(place)
            return
        expected = self._position.seq + 1
        named = place.line == 1 and sealed.seq == segment.first_seq
        if place.line == 1 and not named and (segment.first_seq != expected or sealed.seq < expected):
            message = f"the name says {segment.first_seq}, the first record is {sealed.seq}"
            self._faults.add(FaultKind.RENAMED_SEGMENT, place, sealed.seq, message)
        if sealed.seq < expected:
            self._late(sealed, line, place)
            return
        missing = sealed.seq - expected
        explained = min(missing, self._unfit_count)
        self._explain_unfit(missing=missing)
        if missing > explained:
            self._gaps.append(_Gap(expected + explained, sealed.seq - 1, place, named))
            if len(self._gaps) > _GAPS_MAX:
                self._report_gap(self._gaps.pop(0))
        elif missing == 0 and sealed.prev != self._position.head:
            message = f"record {sealed.seq} was not sealed after the record that stands before it: another history"
            self._faults.add(FaultKind.FORKED, place, sealed.seq, message)
        self._position = Position(chain=sealed.chain, seq=sealed.seq, head=sealed.hash)
        self.records += 1

    def _late(self, sealed: SealedLine, line: bytes, place: _Place) -> None:
        """A sealed record whose number has passed already."""
        self._explain_unfit(missing=0)
        for index, gap in enumerate(self._gaps):
            if gap.first <= sealed.seq <= gap.last:
                parts = (
                    _Gap(gap.first, sealed.seq - 1, gap.place, gap.segment_start),
                    _Gap(sealed.seq + 1, gap.last, gap.place, gap.segment_start),
                )
                self._gaps[index : index + 1] = [part for part in parts if part.first <= part.last]
                message = f"record {sealed.seq} stands after record {self._position.seq}"
                self._faults.add(FaultKind.REORDERED, place, sealed.seq, message)
                self.records += 1
                return
        if self._occurs_before(line, sealed.seq, place):
            message = f"record {sealed.seq} stands here a second time"
            self._faults.add(FaultKind.DUPLICATED, place, sealed.seq, message)
        else:
            message = f"a second record {sealed.seq} of another history stands here"
            self._faults.add(FaultKind.FORKED, place, sealed.seq, message)

    def _occurs_before(self, line: bytes, seq: int, place: _Place) -> bool:
        """Whether the same line stands earlier in the chain; looked up only as long as faults are listed."""
        if len(self._faults.listed) >= FAULTS_LISTED:
            return True
        holders = [segment for segment in self._segments if segment.first_seq <= seq] or self._segments[:1]
        number = 0
        for lines, _ in read_lines(holders[-1].path):
            for candidate in lines:
                number += 1
                if holders[-1].path.name == place.segment and number >= place.line:
                    return False
                if candidate == line:
                    return True
        return False

    def _explain_unfit(self, *, missing: int) -> None:
        """Tell changed records from inserted lines, now that it is known how many numbers are missing."""
        changed = min(missing, self._unfit_count)
        inserted = self._unfit_count - changed
        expected = self._position.seq + 1
        for index, place in enumerate(self._unfit):
            if index < changed:
                seq = expected + index
                self._faults.add(FaultKind.CHANGED, place, seq, f"record {seq} is not what was sealed")
            else:
                self._faults.add(FaultKind.INSERTED, place, expected + changed, "this line was never sealed here")
        unlisted_changed = max(0, changed - len(self._unfit))
        self._faults.count(FaultKind.CHANGED, unlisted_changed)
        self._faults.count(FaultKind.INSERTED, inserted - (len(self._unfit) - (changed - unlisted_changed)))
        self._unfit, self._unfit_count = [], 0

    def _report_gap(self, gap: _Gap) -> None:
        kind = FaultKind.MISSING_SEGMENT if gap.segment_start else FaultKind.REMOVED
        number = gap.last - gap.first + 1
        which = f"record {gap.first} is" if number == 1 else f"records {gap.first} to {gap.last} are"
        how = "; the segment before was removed or shortened" if gap.segment_start else ""
        self._faults.add(kind, gap.place, gap.first, f"{which} missing before this line{how}", number)


def _settled_lines(path: Path, *, last: bool) -> Iterator[tuple[list[bytes], bytes]]:
    """The lines of a segment; the end of the last one is read again where a writer may be in mid write."""
    offset = 0
    patience = _PATIENCE if last else 0
    while True:
        rest = b""
        for lines, rest in read_lines(path, offset):  # noqa: B007
            offset += len(lines) + sum(map(len, lines))
            yield lines, b""
        if not rest:
            return
        if not patience:
            yield [], rest
            return
        patience -= 1
        time.sleep(_SETTLE_S)
