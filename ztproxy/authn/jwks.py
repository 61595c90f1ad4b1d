"""How fresh an issuer's keys are, and who waits for them.

One `KeySet` is current at a time. It is read again every `refresh_s` (the document's own unless told), and at once
for an unknown key id, but for that reason at most once in `cooldown_s`, so that invented ids cost the issuer nothing.
A document that cannot be read, parsed or used leaves the last good one in force until it is `stale_s` old; then there
are no keys and every token is refused (503). A document with the same bytes keeps the same `KeySet` object: caches
compare it by identity.

Ownership: every read is one task, started through `spawn` on the group `app.py` hands out, and there is one at a
time. A caller waits on a future of its own, which that task resolves: callers may be stepped by hand outside any task
(house rules §4), one that is cancelled disturbs no other, and a read outlives those who asked for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ztproxy.authn.documents import Document, DocumentError
from ztproxy.authn.keyset import KeySet, KeysetError, parse_key_set
from ztproxy.errors import Unauthenticated


class JwksSource:
    """The keys of one issuer."""

    def __init__(
        self,
        document: Document,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        refresh_s: float | None = None,
        stale_s: float = 86_400.0,
        cooldown_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._document: Final = document
        self._spawn: Final = spawn
        self._refresh_s: Final = document.refresh_s if refresh_s is None else refresh_s
        self._stale_s: Final = stale_s
        self._cooldown_s: Final = cooldown_s
        self._clock: Final = clock
        self._keys: KeySet | None = None
        self._good_until = float("-inf")
        self._asked_for_any_at = float("-inf")
        self._asked_for_id_at = float("-inf")
        self._reading = False
        self._waiters: set[asyncio.Future[None]] = set()
        self.reads = 0
        """Documents asked for, for metrics."""
        self.last_error: str | None = None
        """Why the last read failed; None: it did not."""

    def current(self) -> KeySet | None:
        """The keys in force; None before the first good document and past the stale limit. Never blocks."""
        return self._keys if self._clock() < self._good_until else None

    def age_s(self) -> float | None:
        """Seconds since the keys in force were last confirmed."""
        return None if self._keys is None else self._clock() - (self._good_until - self._stale_s)

    async def keys(self, kid: str | None) -> KeySet:
        """The keys to judge a token by that names this key id.

        Suspends only when there are none yet, or none of that id and the cool-down is over.
        Raises: `Unauthenticated` (`authn.keys-unavailable`).
        """
        keys = self.current()
        if keys is not None and keys.knows(kid):
            return keys
        # Two cool-downs: the read that brought the first keys does not put off the one for a key published since.
        now = self._clock()
        if keys is None and now - self._asked_for_any_at >= self._cooldown_s:
            self._asked_for_any_at = now
            self._start()
        elif keys is not None and now - self._asked_for_id_at >= self._cooldown_s:
            self._asked_for_id_at = now
            self._start()
        # A read under way may bring the key, whoever asked for it.
        if self._reading:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
            keys = self.current()
        if keys is None:
            raise Unauthenticated(
                "authn.keys-unavailable", "the issuer's keys cannot be had", detail=self.last_error or ""
            )
        return keys

    async def run(self) -> None:
        """Keeps the keys fresh until cancelled; the first read is at once."""
        while True:
            self._start()
            await asyncio.sleep(self._refresh_s if self.last_error is None else min(self._refresh_s, self._cooldown_s))

    async def refresh(self) -> bool:
        """Reads the document now, in the calling task; whether it was good. For start-up, reload and tests."""
        await self._read()
        return self.last_error is None

    def _start(self) -> None:
        if self._reading:
            return
        self._reading = True
        reading = self._read()
        try:
            self._spawn(reading)
        except RuntimeError as error:  # the group is shutting down
            reading.close()
            self._settle(f"no read could be started: {error}")

    async def _read(self) -> None:
        self._reading = True
        self.reads += 1
        failure: str | None = "the read was cut short"
        try:
            failure = self._take(await self._document.read())
        except DocumentError as error:
            failure = str(error)
        except Exception as error:  # a failure here must not stop the house: it is kept for metrics and the next caller
            failure = f"the read failed: {type(error).__name__}"
        finally:
            self._settle(failure)

    def _take(self, document: bytes) -> str | None:
        try:
            keys = parse_key_set(document)
        except KeysetError as error:
            return str(error)
        if not keys.keys:
            return "the key set has no usable key"
        if self._keys is None or self._keys.digest != keys.digest:
            self._keys = keys
        self._good_until = self._clock() + self._stale_s
        return None

    def _settle(self, failure: str | None) -> None:
        self.last_error = failure
        self._reading = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
