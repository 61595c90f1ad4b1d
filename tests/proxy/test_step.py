"""A coroutine stepped by hand: nothing but a call when it need not wait, a task for its rest when it must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ztproxy.proxy.step import step

Factory = Callable[[], asyncio.AbstractEventLoop]


def no_task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    raise AssertionError("a task for what need not wait")


def spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(coroutine)


def run(factory: Factory, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario)


def test_what_need_not_wait_is_over_when_step_returns() -> None:
    done: list[str] = []

    async def quick() -> None:
        done.append("over")

    assert step(quick(), no_task) is None
    assert done == ["over"]


def test_an_error_before_the_first_wait_is_raised_here() -> None:
    async def broken() -> None:
        raise LookupError("at once")

    with pytest.raises(LookupError, match="at once"):
        step(broken(), no_task)


def test_the_results_it_waits_for_reach_it_in_order(loop_factory: Factory) -> None:
    seen: list[str] = []

    async def scenario() -> None:
        first, second = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()

        async def waits() -> None:
            seen.append(await first)
            await asyncio.sleep(0)  # a bare yield, no future
            seen.append(await second)

        task = step(waits(), spawn)
        assert task is not None
        assert seen == []
        first.set_result("first")
        await asyncio.sleep(0.01)
        assert seen == ["first"]
        second.set_result("second")
        await task

    run(loop_factory, scenario())
    assert seen == ["first", "second"]


def test_a_result_that_is_there_before_the_task_runs_is_not_lost(loop_factory: Factory) -> None:
    seen: list[str] = []

    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            seen.append(await future)

        task = step(waits(), spawn)
        assert task is not None
        future.set_result("early")
        await task

    run(loop_factory, scenario())
    assert seen == ["early"]


def test_an_error_it_waits_into_can_be_caught_inside(loop_factory: Factory) -> None:
    seen: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        failing, further = loop.create_future(), loop.create_future()

        async def waits() -> None:
            try:
                await failing
            except OSError as error:
                seen.append(str(error))
            seen.append(await further)

        task = step(waits(), spawn)
        assert task is not None
        failing.set_exception(OSError("refused"))
        await asyncio.sleep(0)
        further.set_result("goes on")
        await task

    run(loop_factory, scenario())
    assert seen == ["refused", "goes on"]


def test_an_error_nobody_catches_ends_the_task_with_it(loop_factory: Factory) -> None:
    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        task = step(waits(), spawn)
        assert task is not None
        future.set_exception(OSError("refused"))
        with pytest.raises(OSError, match="refused"):
            await task

    run(loop_factory, scenario())


def test_cancelling_the_task_cancels_what_it_waits_for_and_runs_its_finally(loop_factory: Factory) -> None:
    seen: list[str] = []

    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            try:
                await future
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            finally:
                seen.append("finally")

        task = step(waits(), spawn)
        assert task is not None
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert future.cancelled()

    run(loop_factory, scenario())
    assert seen == ["cancelled", "finally"]


def test_a_task_cancelled_before_it_ever_ran_closes_the_coroutine(loop_factory: Factory) -> None:
    """Nothing it holds may stay held, though nobody ever sends into it again."""
    seen: list[str] = []

    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            try:
                await future
            finally:
                seen.append("released")

        task = step(waits(), spawn)
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop_factory, scenario())
    assert seen == ["released"]


def test_a_rest_that_is_thrown_away_closes_the_coroutine() -> None:
    seen: list[str] = []
    kept: list[Coroutine[Any, Any, None]] = []

    class Future:
        def __await__(self) -> Any:
            yield self

    async def waits() -> None:
        try:
            await Future()
        finally:
            seen.append("released")

    def keep(rest: Coroutine[Any, Any, None]) -> Any:
        kept.append(rest)

    step(waits(), keep)
    kept[0].send(None)
    kept[0].close()
    assert seen == ["released"]
