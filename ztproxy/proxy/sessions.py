"""Live connections, looked at a few times a second: a phase that lasts past its deadline is ended.

One sweep over all connections costs less than a timer per request; deadlines are met within `SWEEP_S`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol

SWEEP_S: Final = 0.25

_log = logging.getLogger("ztproxy")


class Session(Protocol):
    """A connection that can be ended for lasting too long."""

    @property
    def deadline(self) -> float:
        """Monotonic seconds."""

    def expire(self) -> None:
        """Ends the present phase."""

    def finish(self) -> None:
        """Ends the connection once the exchange under way is over; at once when it rests."""

    def cut(self) -> None:
        """Ends the connection now."""


class Sessions:
    """All live connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._live: Final[set[Session]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._empty: Final = asyncio.Event()

    def __len__(self) -> int:
        return len(self._live)

    def add(self, session: Session) -> None:
        """Watches a connection from now on."""
        self._live.add(session)

    def discard(self, session: Session) -> None:
        """The connection is gone."""
        self._live.discard(session)
        if not self._live:
            self._empty.set()

    def start(self) -> None:
        """Sweeps until `stop`."""
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Sweeps no more."""
        if self._timer is not None:
            self._timer.cancel()

    async def drain(self, seconds: float) -> None:
        """Every connection ends with the exchange it is in, and all that are left after `seconds` at once."""
        for session in tuple(self._live):
            session.finish()
        if self._live:
            self._empty.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
        for session in tuple(self._live):
            session.cut()

    def _sweep(self) -> None:
        now = monotonic()
        try:
            for session in [each for each in self._live if each.deadline < now]:
                self._expire(session)
        finally:
            self.start()

    def _expire(self, session: Session) -> None:
        try:
            session.expire()
        except Exception:
            _log.exception("a connection could not be ended")
