"""What the spool would not take: sealed lines held in order while a failure lasts, and the story of that failure."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from ztproxy.audit.seal import cut


class Backlog:
    """One failure of the spool, from its first error to the recovery; lives on the recorder's loop.

    INVARIANT: the first held byte starts a line. `_skip` counts how many bytes of that line are in the segment already.
    """

    __slots__ = ("_buffers", "_skip", "blocked", "error", "lines", "refused", "since", "since_ms", "size_bytes")

    def __init__(self, *, since: float, since_ms: int) -> None:
        self.since = since
        """Monotonic start of the failure."""
        self.since_ms = since_ms
        self.error = ""
        self.blocked = False
        """Whether writing fails too; otherwise only syncing does and `drain` is worth calling at every flush."""
        self.refused = 0
        """Records that were turned away."""
        self.lines = 0
        """Records that were held at some time."""
        self.size_bytes = 0
        self._buffers: deque[bytes] = deque()
        self._skip = 0

    def note(self, error: OSError, *, blocked: bool) -> None:
        """The latest error, by its symbol, and whether it stands in the way of writing."""
        self.error = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self.blocked = blocked

    def hold(self, data: bytes, written: int = 0) -> None:
        """Keep whole lines of which the segment took the first `written` bytes."""
        start = data.rfind(b"\n", 0, written) + 1
        rest = data[start:]
        if rest:
            if not self._buffers:
                self._skip = written - start
            self._buffers.append(rest)
            self.size_bytes += len(rest)
            self.lines += rest.count(b"\n")

    @property
    def first_seq(self) -> int | None:
        """Sequence number of the first line held."""
        if not self._buffers:
            return None
        first = cut(self._buffers[0].partition(b"\n")[0])
        assert first is not None  # nothing but our own sealed lines is held
        return first.seq

    def restart(self) -> None:
        """Write the first line from its beginning, for it goes into a new segment."""
        self._skip = 0

    def drain(self, write: Callable[[memoryview], int], limit_bytes: int) -> bool:
        """Write what is held, from the byte where the last write stopped; whether nothing is left.

        Stops after about `limit_bytes`.
        Raises: `OSError` from `write`; what was taken until then is remembered.
        """
        taken = 0
        while self._buffers and taken < limit_bytes:
            first = self._buffers[0]
            end = min(len(first), self._skip + limit_bytes)
            count = write(memoryview(first)[self._skip : end])
            taken += count
            self._skip += count
            if self._skip == len(first):
                self._buffers.popleft()
                self.size_bytes -= len(first)
                self._skip = 0
            else:
                start = first.rfind(b"\n", 0, self._skip) + 1
                if start:
                    self._buffers[0] = first[start:]
                    self.size_bytes -= start
                    self._skip -= start
        return not self._buffers

    def facts(self, until_ms: int) -> dict[str, Any]:
        """What `audit.recovered` says of it."""
        return {
            "buffered": self.lines,
            "cause": "spool-failed",
            "error": self.error,
            "from": self.since_ms,
            "refused": self.refused,
            "until": until_ms,
        }
