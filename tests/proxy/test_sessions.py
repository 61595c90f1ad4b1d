"""Deadlines are met by one sweep; a drain waits for what is under way and cuts what does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import pytest

from ztproxy.proxy import sessions as module
from ztproxy.proxy.sessions import Sessions

Factory = Callable[[], asyncio.AbstractEventLoop]


class Recorded:
    """A session that tells what was done to it."""

    def __init__(self, sessions: Sessions, name: str, *, seconds: float = float("inf"), ends: bool = False) -> None:
        self.deadline = monotonic() + seconds
        self.done: list[str] = []
        self._sessions = sessions
        self._ends = ends
        self.name = name
        sessions.add(self)

    def expire(self) -> None:
        self.done.append("expire")
        self.deadline = float("inf")

    def finish(self) -> None:
        self.done.append("finish")
        if self._ends:
            self.leave()

    def cut(self) -> None:
        self.done.append("cut")

    def leave(self) -> None:
        self._sessions.discard(self)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)


def run(factory: Factory, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario)


def test_only_what_is_past_its_deadline_expires_and_again_at_the_next(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        late, early = Recorded(sessions, "late", seconds=0.05), Recorded(sessions, "early", seconds=60)
        sessions.start()
        await asyncio.sleep(0.03)
        assert late.done == []
        await asyncio.sleep(0.1)
        assert (late.done, early.done) == (["expire"], [])
        late.deadline = monotonic() - 1
        await asyncio.sleep(0.08)
        assert late.done == ["expire", "expire"]
        sessions.stop()

    run(loop_factory, scenario())


def test_whoever_has_left_is_not_expired(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        gone = Recorded(sessions, "gone", seconds=-1)
        assert len(sessions) == 1
        gone.leave()
        gone.leave()
        assert len(sessions) == 0
        sessions.start()
        await asyncio.sleep(0.08)
        sessions.stop()
        assert gone.done == []

    run(loop_factory, scenario())


def test_one_that_leaves_while_another_expires_does_not_disturb_the_sweep(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        both = [Recorded(sessions, name, seconds=-1) for name in "ab"]

        def leaves(this: Recorded) -> Callable[[], None]:
            def expire() -> None:
                this.done.append("expire")
                this.leave()

            return expire

        for each in both:
            each.expire = leaves(each)  # type: ignore[method-assign]
        sessions.start()
        await asyncio.sleep(0.08)
        sessions.stop()
        assert [each.done for each in both] == [["expire"], ["expire"]]
        assert len(sessions) == 0

    run(loop_factory, scenario())


def test_one_that_breaks_does_not_end_the_watch_over_the_others(loop_factory: Factory) -> None:
    """Without the sweep no deadline of any connection would ever be met again."""
    told: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context.get("exception"))))
        sessions = Sessions(loop)
        broken = Recorded(sessions, "broken", seconds=-1)

        def expire() -> None:
            broken.deadline = float("inf")
            raise RuntimeError("a bug")

        broken.expire = expire  # type: ignore[method-assign]
        sessions.start()
        await asyncio.sleep(0.05)
        late = Recorded(sessions, "late", seconds=-1)
        await asyncio.sleep(0.1)
        sessions.stop()
        assert late.done == ["expire"]

    run(loop_factory, scenario())


def test_a_stopped_sweep_expires_nothing(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        sessions.stop()
        late = Recorded(sessions, "late", seconds=-1)
        sessions.start()
        sessions.stop()
        await asyncio.sleep(0.08)
        assert late.done == []

    run(loop_factory, scenario())


def test_a_drain_without_sessions_is_over_at_once(loop_factory: Factory) -> None:
    async def scenario() -> None:
        started = monotonic()
        await Sessions(asyncio.get_running_loop()).drain(30)
        assert monotonic() - started < 1

    run(loop_factory, scenario())


def test_a_drain_of_sessions_that_rest_is_over_at_once(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        resting = [Recorded(sessions, str(number), ends=True) for number in range(3)]
        started = monotonic()
        await sessions.drain(30)
        assert monotonic() - started < 1
        assert [each.done for each in resting] == [["finish"]] * 3

    run(loop_factory, scenario())


def test_a_drain_waits_for_what_is_under_way(loop_factory: Factory) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        sessions = Sessions(loop)
        resting, busy = Recorded(sessions, "resting", ends=True), Recorded(sessions, "busy")
        loop.call_later(0.05, busy.leave)
        started = monotonic()
        await sessions.drain(30)
        assert 0.04 < monotonic() - started < 5
        assert (resting.done, busy.done) == (["finish"], ["finish"])

    run(loop_factory, scenario())


def test_a_drain_cuts_what_does_not_end_in_time_and_nothing_else(loop_factory: Factory) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        sessions = Sessions(loop)
        ends, stays = Recorded(sessions, "ends"), Recorded(sessions, "stays")
        loop.call_later(0.01, ends.leave)
        started = monotonic()
        await sessions.drain(0.1)
        assert 0.09 < monotonic() - started < 5
        assert (ends.done, stays.done) == (["finish"], ["finish", "cut"])

    run(loop_factory, scenario())


def test_a_drain_that_is_cancelled_says_so(loop_factory: Factory) -> None:
    async def scenario() -> None:
        sessions = Sessions(asyncio.get_running_loop())
        Recorded(sessions, "stays")
        draining = asyncio.get_running_loop().create_task(sessions.drain(30))
        await asyncio.sleep(0.01)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining

    run(loop_factory, scenario())
