"""Group commit: records become durable together, in the order they were sealed, or callers learn that they cannot.

Two promises over one queue:

- **buffered**: `append` seals and queues; `flush`, called before anything of this loop turn leaves the process, hands
  the queue to the kernel in one `write(2)`. kill -9 then loses nothing. A background `fdatasync` follows within
  `sync_every_s`, so a power cut loses at most that.
- **required**: `durable` answers a future that is done when the record has been written *and* synced. All that wait
  share one `fdatasync`; while it runs, the next group gathers.

States. *Healthy*: the queue empties with every flush. *Failing* since the first error: unwritten lines are held in
order, `append` is accepted up to `buffer_bytes` or `buffer_s`, then refused; `durable` is refused at once. A retry
every `_RETRY_S` writes what is held, from the very byte where the last write stopped, and syncs; when both succeed
the recorder is healthy again and its first new record, `audit.recovered`, states the gap.

Everything but the one worker thread's `fdatasync` runs on the loop that called `open`. The futures of `durable` need
no task around them: a coroutine stepped by hand may await one.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ztproxy.audit.backlog import Backlog
from ztproxy.audit.record import event_body, milliseconds
from ztproxy.audit.seal import Position, Sealer
from ztproxy.audit.spool import Recovered, Spool
from ztproxy.errors import AuditUnavailable
from ztproxy.types import AuditRecord

_RETRY_S: Final = 0.1
_DURABLE_WITHIN_S: Final = 0.9
"""A group that is not durable after this fails, so that every caller hears of it within a second."""
_DRAIN_BYTES: Final = 4 * 1024 * 1024
"""Held bytes written in one loop turn after a failure, so that catching up does not stall the loop."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _unavailable(detail: str) -> AuditUnavailable:
    return AuditUnavailable("audit.unavailable", "the audit record cannot be written", detail=detail)


class Recorder:
    """The one writer of a spool, for one event loop.

    `chain_id` None continues the spool's chain or starts one with a random id.
    """

    def __init__(
        self,
        spool_dir: Path,
        *,
        chain_id: str | None = None,
        segment_bytes: int = 64 * 1024 * 1024,
        sync_every_s: float = 1.0,
        buffer_bytes: int = 64 * 1024 * 1024,
        buffer_s: float = 60.0,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._spool: Final = Spool(spool_dir)
        self._chain_id: Final = chain_id
        self._segment_bytes: Final = segment_bytes
        self._sync_every_s: Final = sync_every_s
        self._buffer_bytes: Final = buffer_bytes
        self._buffer_s: Final = buffer_s
        self._now: Final = now
        self._open = False
        self._queue: list[bytes] = []
        self._flush_due = False
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: list[asyncio.Future[None]] | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._overdue_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._waiting_since = 0.0
        self._failing: Backlog | None = None
        self._proving = False
        """Whether the sync under way began after everything held was written, so that its success ends the failure."""

    def open(self) -> None:
        """Take the spool, put its tail right and stand ready; must be called on the loop that will append.

        Raises: `AuditUnavailable`, its detail says what is wrong with the spool.
        """
        self._loop = asyncio.get_running_loop()
        try:
            position, recovered = self._spool.open(self._chain_id, secrets.token_hex(8))
        except (OSError, ValueError) as error:
            raise _unavailable(str(error)) from error
        self._sealer = Sealer(position)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="audit-sync")
        self._open = True
        if recovered is not None:
            self.append(self._gap(_cut_facts(recovered)))
            self.flush()

    @property
    def pending(self) -> bool:
        """Whether `flush` has anything to do."""
        return bool(self._queue) or self._failing is not None

    @property
    def position(self) -> Position:
        """Where the chain stands, sealed though perhaps not yet written."""
        return self._sealer.position

    @property
    def failing(self) -> str | None:
        """Why records cannot be made durable right now; None: all is well."""
        return None if self._failing is None else self._failing.error

    def append(self, body: bytes) -> None:
        """Seal a record and queue it for this turn's `flush`.

        Raises: `AuditUnavailable` once the spool has failed for longer or for more bytes than it may; nothing is
        sealed then.
        """
        if self._failing is not None or not self._open:
            self._hold(body)
            return
        self._queue.append(self._sealer.seal(body))
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_turn)

    def durable(self, body: bytes) -> asyncio.Future[None]:
        """Seal a record; the future is done once it is written and synced.

        A record whose future failed may still reach the spool later, in its place.
        Raises: `AuditUnavailable`, at once while the spool is failing (nothing is sealed), else through the future
        within a second.
        """
        if self._failing is not None:
            self._failing.refused += 1
            raise _unavailable(self._failing.error)
        self.append(body)
        future = self._loop.create_future()
        if not self._waiting:
            self._waiting_since = self._loop.time()
        self._waiting.append(future)
        return future

    def flush(self) -> None:
        """Hand everything queued to the kernel, in one write; never raises, a failure shows in the next `append`."""
        if self._failing is not None and not self._failing.blocked:
            self._drain(self._failing)
        queue = self._queue
        if not queue:
            return
        data = queue[0] if len(queue) == 1 else b"".join(queue)
        queue.clear()
        count = 0
        try:
            while count < len(data):
                count += self._spool.write(memoryview(data)[count:] if count else data)
        except OSError as error:
            self._fail(error, data, count, blocked=True)
            return
        if self._waiting:
            self._start_sync()
        elif self._sync_timer is None:
            self._sync_timer = self._loop.call_later(self._sync_every_s, self._sync_due)

    def close(self) -> None:
        """Write and sync everything, then let go of the spool; waits for a sync under way.

        Raises: `AuditUnavailable` if records were lost that `append` had accepted.
        """
        if not self._open:
            return
        self.flush()
        self._open = False
        _cancel(self._sync_timer, self._overdue_timer, self._retry_timer)
        self._executor.shutdown(wait=True)
        failure: str | None = None
        try:
            if self._failing is not None:
                self._reopen(self._failing)
                self._failing.hold(self._sealer.seal(self._gap(self._failing.facts(milliseconds(self._now())))))
                while not self._failing.drain(self._spool.write, _DRAIN_BYTES):
                    pass
            self._spool.sync()
        except OSError as error:
            failure = f"records may be lost at the end of the spool: {error}"
        self._settle((self._syncing or []) + self._waiting, failure)
        self._spool.close()
        if failure is not None:
            raise _unavailable(failure)

    def _flush_turn(self) -> None:
        self._flush_due = False
        if self._open:
            self.flush()

    def _hold(self, body: bytes) -> None:
        backlog = self._failing
        if backlog is None or not self._open:
            raise _unavailable("the recorder is closed")
        held_too_long = self._loop.time() - backlog.since > self._buffer_s
        if held_too_long or backlog.size_bytes + len(body) > self._buffer_bytes:
            backlog.refused += 1
            raise _unavailable(backlog.error)
        backlog.hold(self._sealer.seal(body))

    def _sync_due(self) -> None:
        self._sync_timer = None
        self._start_sync()

    def _start_sync(self) -> None:
        """INVARIANT: whatever `_waiting` waits for has been written when this is called."""
        if self._syncing is not None:
            return
        _cancel(self._sync_timer)
        self._sync_timer = None
        waited = self._loop.time() - self._waiting_since if self._waiting else 0.0
        self._syncing, self._waiting = self._waiting, []
        self._overdue_timer = self._loop.call_later(max(0.0, _DURABLE_WITHIN_S - waited), self._overdue)
        self._loop.run_in_executor(self._executor, self._spool.sync).add_done_callback(self._sync_done)

    def _sync_done(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if not self._open:
            return
        _cancel(self._overdue_timer)
        group, self._syncing = self._syncing or [], None
        proved, self._proving = self._proving, False
        if error is not None:
            self._settle(group, str(error))
            blocked = isinstance(error, OSError) and error.errno == errno.ESTALE
            self._fail(error if isinstance(error, OSError) else OSError(errno.EIO, str(error)), blocked=blocked)
            return
        self._settle(group, None)
        if self._failing is not None:
            if proved and self._drain(self._failing):
                self._recover(self._failing)
            return
        if self._spool.size >= self._segment_bytes:
            with suppress(OSError):  # the old segment goes on; the next sync tries again
                self._spool.start_segment(self._sealer.chain, self._sealer.seq + 1 - len(self._queue))
        self.flush()
        if self._waiting:
            self._start_sync()
        elif self._spool.dirty and self._sync_timer is None:
            self._sync_timer = self._loop.call_later(self._sync_every_s, self._sync_due)

    def _overdue(self) -> None:
        self._settle(self._syncing or [], "the spool's disk does not answer")
        self._syncing = []
        self._fail(OSError(errno.ETIMEDOUT, "the spool's disk does not answer"), blocked=False)

    def _fail(self, error: OSError, data: bytes = b"", written: int = 0, *, blocked: bool) -> None:
        backlog = self._failing
        if backlog is None:
            backlog = self._failing = Backlog(since=self._loop.time(), since_ms=milliseconds(self._now()))
        backlog.note(error, blocked=blocked)
        backlog.hold(data, written)
        backlog.hold(b"".join(self._queue))
        self._queue.clear()
        self._settle(self._waiting, backlog.error)
        self._waiting = []
        if self._retry_timer is None:
            self._retry_timer = self._loop.call_later(_RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        backlog = self._failing
        if backlog is None:
            return
        delay = _RETRY_S
        if self._syncing is None:
            try:
                self._reopen(backlog)
            except OSError as error:
                backlog.note(error, blocked=True)
            else:
                if self._drain(backlog):
                    self._proving = True
                    self._start_sync()
                elif not backlog.blocked:
                    delay = 0.0
        self._retry_timer = self._loop.call_later(delay, self._retry)

    def _reopen(self, backlog: Backlog) -> None:
        if self._spool.removed:
            self._spool.start_segment(self._sealer.chain, backlog.first_seq or self._sealer.seq + 1)
            backlog.restart()

    def _drain(self, backlog: Backlog) -> bool:
        try:
            done = backlog.drain(self._spool.write, _DRAIN_BYTES)
        except OSError as error:
            backlog.note(error, blocked=True)
            return False
        backlog.blocked = False
        return done

    def _recover(self, backlog: Backlog) -> None:
        self._failing = None
        self.append(self._gap(backlog.facts(milliseconds(self._now()))))

    def _gap(self, facts: Mapping[str, Any]) -> bytes:
        return event_body(AuditRecord(event="audit.recovered", facts=facts), at_ms=milliseconds(self._now()))

    @staticmethod
    def _settle(group: list[asyncio.Future[None]], failure: str | None) -> None:
        for future in group:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(_unavailable(failure))


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()


def _cut_facts(recovered: Recovered) -> dict[str, Any]:
    return {
        "cause": "torn-tail",
        "cut_bytes": recovered.size_bytes,
        "cut_offset": recovered.offset,
        "cut_sha256": recovered.sha256,
        "segment": recovered.segment,
    }
