"""Runs a coroutine at once, in the callback that made it; only what has to wait becomes a task.

A coroutine that never suspends costs one `send`: no task, no future, no context switch. The first future it waits
for is carried into a task by `_Rest`, which from then on passes results, errors and cancellation through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Starts a task in the group that owns it."""


class _Rest:
    """Awaits the remainder of a coroutine that already waits for `future`."""

    __slots__ = ("_coroutine", "_future")

    def __init__(self, coroutine: Coroutine[Any, Any, None], future: Any) -> None:
        self._coroutine = coroutine
        self._future = future

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, future = self._coroutine, self._future
        try:
            while True:
                try:
                    value = yield future
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:
                    future = coroutine.throw(error)
                else:
                    future = coroutine.send(value)
        except StopIteration:
            return


async def _finish(coroutine: Coroutine[Any, Any, None], future: Any) -> None:
    await _Rest(coroutine, future)


def step(coroutine: Coroutine[Any, Any, None], spawn: Spawn) -> asyncio.Task[None] | None:
    """Runs a coroutine until it ends or first waits; the task that holds the rest, None when it ended.

    What the coroutine raises before it waits is raised here.
    """
    try:
        future = coroutine.send(None)
    except StopIteration:
        return None
    return spawn(_finish(coroutine, future))
