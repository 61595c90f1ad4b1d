"""The files of a spool: segments of sealed lines, one writer at a time, and the tail put right after a crash.

A spool is a directory. Each segment `<chain>-<first seq, 20 digits>.jsonl` holds consecutive lines of one chain, so
sorting the names sorts the records. Only the process that holds the lock file writes. A segment is durable before its
successor is created, so after a power cut only the end of the last segment can be damaged.

What a crash may leave at that end: a torn line (kill -9 in mid write), or bytes that are no line at all (a power cut
before the data reached the disk). Both are cut and named in `Recovered`. What it cannot leave is a broken line with
intact sealed lines after it: that is tampering, nothing is touched then and the spool refuses to open.

After `fdatasync` has failed once, the kernel may have marked the lost pages clean, so a later success would prove
nothing: the bytes since the last good sync are written over themselves before syncing again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ztproxy.audit.seal import CHAIN_PATTERN, LINE_BYTES_MAX, Position, cut, genesis, verify_lines

_NAME: Final = re.compile(rf"({CHAIN_PATTERN.pattern})-([0-9]{{20}})\.jsonl", re.ASCII)
_BLOCK_BYTES: Final = 1024 * 1024
LOCK_NAME: Final = "lock"


class SpoolError(OSError):
    """The spool cannot be opened as it is; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One file of a chain, by its name."""

    path: Path
    chain: str
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was cut from the end of a spool that did not close properly."""

    segment: str
    offset: int
    size_bytes: int
    sha256: str


def segment_name(chain: str, first_seq: int) -> str:
    """The file name of a segment; names sort as the records do."""
    return f"{chain}-{first_seq:020d}.jsonl"


def list_segments(directory: Path) -> tuple[Segment, ...]:
    """The segments of a spool by chain, then sequence; other files are not looked at."""
    found = []
    for entry in directory.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is not None:
            found.append(Segment(path=entry, chain=match[1], first_seq=int(match[2])))
    return tuple(sorted(found, key=lambda segment: (segment.chain, segment.first_seq)))


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[list[bytes], bytes]]:
    """Batches of whole lines without their newlines, each with the unfinished bytes that follow it so far.

    Memory stays bounded: a stretch longer than any sealed line comes as lines of its own, which fit nowhere.
    """
    rest = b""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_BYTES_MAX:
                lines.append(rest)
                rest = b""
            yield lines, rest


class Spool:
    """The one writer of a spool directory; knows bytes, offsets and files, nothing of time or tasks.

    `write` and `start_segment` belong to one thread; `sync` may run in another, but never beside `start_segment`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._lock = -1
        self._file = -1
        self._path = directory
        self._synced = 0
        self._suspect = False
        self.size = 0
        """Bytes in the current segment."""

    @property
    def segment(self) -> str:
        """Name of the segment being written."""
        return self._path.name

    @property
    def dirty(self) -> bool:
        """Whether bytes were written that no sync has covered."""
        return self.size > self._synced or self._suspect

    def open(self, chain: str | None, fresh_chain: str) -> tuple[Position, Recovered | None]:
        """Lock the directory, put the tail right and stand ready to append after it.

        `chain` None continues the only chain there, or starts `fresh_chain` in an empty spool.
        Raises: `OSError`, of which `SpoolError` says what to do; nothing stays open then.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._directory.stat().st_mode & 0o022:
                raise SpoolError(f"others may write to the spool directory `{self._directory}`: run chmod 700 on it")
            self._take_lock()
            position, recovered = self._resume(self._choose(chain, fresh_chain))
        except BaseException:
            self.close()
            raise
        return position, recovered

    def _take_lock(self) -> None:
        self._lock = os.open(self._directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError(f"another process writes to the spool `{self._directory}`") from None

    def _choose(self, chain: str | None, fresh_chain: str) -> str:
        if chain is not None:
            return chain
        chains = sorted({segment.chain for segment in list_segments(self._directory)})
        if len(chains) > 1:
            raise SpoolError(f"the spool `{self._directory}` holds several chains: {', '.join(chains)}; name one")
        return chains[0] if chains else fresh_chain

    def _resume(self, chain: str) -> tuple[Position, Recovered | None]:
        recovered: Recovered | None = None
        segments = [segment for segment in list_segments(self._directory) if segment.chain == chain]
        while segments:
            segment = segments.pop()
            position, kept = _read_valid(segment)
            if segment.path.stat().st_size > kept:
                if recovered is not None:
                    raise SpoolError(f"segments `{segment.path.name}` and `{recovered.segment}` are both damaged")
                recovered = _examine(segment.path, kept)
                _truncate(segment.path, kept)
            if position is not None:
                self._append_to(segment.path)
                return position, recovered
            if not segments:
                raise SpoolError(f"segment `{segment.path.name}` holds no whole record to continue from")
            segment.path.unlink()
        self._create(self._directory / segment_name(chain, 1))
        return genesis(chain), recovered

    def write(self, data: bytes | memoryview) -> int:
        """Append to the segment; how many bytes of `data` it took."""
        count = os.write(self._file, data)
        self.size += count
        return count

    def sync(self) -> None:
        """Make everything written so far survive a power cut.

        Raises: `OSError`; also where the segment was deleted under us, for then nothing is kept.
        """
        end = self.size
        try:
            if self.removed:
                raise OSError(errno.ESTALE, "the segment was removed")
            if self._suspect:
                self._rewrite(end)
            os.fdatasync(self._file)
        except OSError:
            self._suspect = True
            raise
        self._synced = end
        self._suspect = False

    @property
    def removed(self) -> bool:
        """Whether the segment's file has been deleted."""
        return os.fstat(self._file).st_nlink == 0

    def _rewrite(self, end: int) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            offset = self._synced
            while offset < end:
                block = os.pread(file, min(_BLOCK_BYTES, end - offset), offset)
                if not block:
                    raise OSError(errno.EIO, "the segment is shorter than what was written to it")
                offset += os.pwrite(file, block, offset)
        finally:
            os.close(file)

    def start_segment(self, chain: str, first_seq: int) -> None:
        """Go on in a new segment once the old one is durable; on failure the old one stays current.

        Raises: `OSError`.
        """
        if not self.removed:
            self.sync()
        old = self._file
        self._create(self._directory / segment_name(chain, first_seq))
        os.close(old)

    def _create(self, path: Path) -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        _sync_directory(self._directory)
        self._adopt(file, path, 0)

    def _append_to(self, path: Path) -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        os.fsync(file)
        self._adopt(file, path, os.fstat(file).st_size)

    def _adopt(self, file: int, path: Path, size: int) -> None:
        self._file, self._path, self._suspect = file, path, False
        self.size = self._synced = size

    def close(self) -> None:
        """Let go of file and lock; syncs nothing."""
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1


def _read_valid(segment: Segment) -> tuple[Position | None, int]:
    """Where the chain stands after the intact lines at the start of a segment, and how many bytes those are.

    None: nothing to continue from, for the hash before a later segment's first record stands only in that record.
    """
    position = genesis(segment.chain) if segment.first_seq == 1 else None
    kept = 0
    for lines, _ in read_lines(segment.path):
        if not lines:
            continue
        if position is None:
            first = cut(lines[0])
            if first is None or first.seq != segment.first_seq:
                break
            position = Position(chain=segment.chain, seq=first.seq - 1, head=first.prev)
        after = verify_lines(lines, position)
        count = after.seq - position.seq
        kept += count + sum(map(len, lines[:count]))
        position = after
        if count < len(lines):
            break
    return (position if kept or segment.first_seq == 1 else None), kept


def _examine(path: Path, offset: int) -> Recovered:
    digest = sha256()
    size = 0
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    for lines, _ in read_lines(path, offset):
        for line in lines:
            sealed = cut(line)
            if sealed is not None and sealed.consistent:
                raise SpoolError(
                    f"segment `{path.name}` is broken at byte {offset} and holds record {sealed.seq} after that, which "
                    "no crash leaves: run `ztproxy audit verify`, then move the spool aside"
                )
    return Recovered(segment=path.name, offset=offset, size_bytes=size, sha256=digest.hexdigest())


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
