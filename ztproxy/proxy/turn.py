"""One turn of the event loop: what it wants to send waits until what it wants to record is written.

INVARIANT: no byte leaves through `send` before the audit records of the same turn are in the kernel's hands, so
kill -9 can lose an answer but never the record of it. All records of a turn share one `write(2)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    import asyncio

    from ztproxy.audit.recorder import Recorder


class Closable(Protocol):
    """Something that ends behind what was sent before: a transport, or a connection with its own idea of the end."""

    def is_closing(self) -> bool:
        """Whether it ends already."""

    def close(self) -> None:
        """Ends it."""


class Turn:
    """The outbox of one event loop."""

    __slots__ = ("_loop", "_outbox", "_recorder")

    def __init__(self, loop: asyncio.AbstractEventLoop, recorder: Recorder) -> None:
        self._loop: Final = loop
        self._recorder: Final = recorder
        self._outbox: list[tuple[asyncio.Transport, bytes] | tuple[Closable, None]] = []

    def send(self, transport: asyncio.Transport, data: bytes) -> None:
        """Sends at the end of this turn, in the order of the calls."""
        if not self._outbox:
            if not self._recorder.pending:
                if not transport.is_closing():
                    transport.write(data)
                return
            self._loop.call_soon(self._flush)
        self._outbox.append((transport, data))

    def close(self, transport: Closable) -> None:
        """Closes once everything sent before has left."""
        if not self._outbox:
            if not self._recorder.pending:
                transport.close()
                return
            self._loop.call_soon(self._flush)
        self._outbox.append((transport, None))

    def _flush(self) -> None:
        outbox = self._outbox
        self._outbox = []
        self._recorder.flush()
        for transport, data in outbox:
            if transport.is_closing():
                continue  # whoever it led to is gone, and has been told
            if data is None:
                transport.close()
            else:
                cast("asyncio.Transport", transport).write(data)
