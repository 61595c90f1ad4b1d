from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.authn.issuer import Issuer, running_issuer, silent
from tests.authn.tokens import EC, ED, RSA, document, stepped
from ztproxy.authn.documents import DocumentError, Fetcher, FileDocument, UrlDocument
from ztproxy.authn.jwks import JwksSource
from ztproxy.authn.keyset import KeySet
from ztproxy.errors import Unauthenticated

_Result = TypeVar("_Result")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Script:
    """A document that answers as told: bytes, an error to raise, or a gate to wait at first."""

    def __init__(self, answer: bytes | BaseException) -> None:
        self.answer = answer
        self.refresh_s = 300.0
        self.reads = 0
        self.gate: asyncio.Event | None = None

    async def read(self) -> bytes:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def scene(
    play: Callable[[JwksSource, Script, Clock], Awaitable[_Result]],
    answer: bytes | BaseException | None = None,
    **limits: float,
) -> _Result:
    async def main() -> _Result:
        script, clock = Script(document(RSA) if answer is None else answer), Clock()
        async with asyncio.TaskGroup() as group:
            return await play(JwksSource(script, spawn=group.create_task, clock=clock, **limits), script, clock)

    return asyncio.run(main())


async def unavailable(source: JwksSource, kid: str | None = "rsa-1") -> str:
    with pytest.raises(Unauthenticated) as caught:
        await source.keys(kid)
    assert caught.value.code == "authn.keys-unavailable"
    return caught.value.detail


def test_the_first_question_reads_the_document() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        assert source.current() is None
        assert source.age_s() is None
        keys = await source.keys("rsa-1")
        assert keys is source.current()
        assert (source.reads, source.last_error, source.age_s()) == (1, None, 0)
        clock.now += 7
        assert source.age_s() == 7

    scene(play)


def test_a_known_key_id_never_suspends() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        assert await source.refresh()
        assert stepped(source.keys("rsa-1")) is source.current()
        assert stepped(source.keys(None)) is source.current()
        assert script.reads == 1

    scene(play)


def test_a_coroutine_stepped_outside_any_task_can_wait() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KeySet] = loop.create_future()
        coroutine = source.keys("rsa-1")

        def step() -> None:
            assert asyncio.current_task() is None
            try:
                waited = coroutine.send(None)
            except StopIteration as stop:
                done.set_result(stop.value)
                return
            waited._asyncio_future_blocking = False
            waited.add_done_callback(lambda _: step())

        loop.call_soon(step)
        assert await done is source.current()

    scene(play)


def test_many_callers_share_one_read() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        script.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            askers = [group.create_task(source.keys("rsa-1")) for _ in range(100)]
            await asyncio.sleep(0.01)
            script.gate.set()
        assert {asker.result() for asker in askers} == {source.current()}
        assert script.reads == 1
        assert not source._waiters

    scene(play)


def test_a_caller_that_leaves_disturbs_no_other() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        script.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            stays, leaves = (group.create_task(source.keys("rsa-1")) for _ in range(2))
            await asyncio.sleep(0.01)
            leaves.cancel()
            await asyncio.sleep(0.01)
            assert leaves.cancelled()
            assert len(source._waiters) == 1
            script.gate.set()
        assert stays.result() is source.current()

    scene(play)


def test_a_caller_cancelled_as_the_read_ends() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        coroutine = source.keys("rsa-1")
        future = coroutine.send(None)
        future.cancel()
        await asyncio.sleep(0.01)
        assert source.current() is not None
        with pytest.raises(asyncio.CancelledError):
            coroutine.send(None)

    scene(play)


def test_an_unknown_key_id_reads_again_but_rarely() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        await source.refresh()
        script.answer = document(RSA, EC)
        assert (await source.keys("ec-1")).knows("ec-1")
        assert script.reads == 2
        for number in range(1000):
            clock.now += 0.001
            assert not stepped(source.keys(f"invented-{number}")).knows(f"invented-{number}")
        assert script.reads == 2
        clock.now += 30
        await source.keys("invented")
        assert script.reads == 3

    scene(play)


def test_a_read_under_way_is_joined_inside_the_cooldown() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        await source.refresh()
        script.gate = asyncio.Event()
        script.answer = document(RSA, EC)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(source.keys("invented"))
            await asyncio.sleep(0.01)
            second = group.create_task(source.keys("ec-1"))
            await asyncio.sleep(0.01)
            script.gate.set()
        assert second.result().knows("ec-1")
        assert first.result() is second.result()
        assert script.reads == 2

    scene(play)


@pytest.mark.parametrize("lazily", [False, True])
def test_the_first_and_the_periodic_read_do_not_use_up_the_cooldown(lazily: bool) -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        await (source.keys("rsa-1") if lazily else source.refresh())
        script.answer = document(RSA, EC)
        assert (await source.keys("ec-1")).knows("ec-1")

    scene(play)


def test_the_same_document_keeps_the_same_keys_and_another_replaces_them() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        await source.refresh()
        keys = source.current()
        clock.now += 300
        await source.refresh()
        assert source.current() is keys
        script.answer = document(ED)
        await source.refresh()
        now = source.current()
        assert now is not None
        assert now.knows("ed-1")
        assert not now.knows("rsa-1")

    scene(play)


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (DocumentError("answered 500"), "500"),
        (RuntimeError("secret detail"), "RuntimeError"),
        (b"<html>", "json"),
        (b"", "json"),
        (b'{"keys": []}', "no usable key"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "no usable key"),
    ],
)
def test_the_last_good_keys_serve_until_they_are_stale(failure: bytes | BaseException, word: str) -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        await source.refresh()
        keys = source.current()
        script.answer = failure
        clock.now += 86_399
        assert not await source.refresh()
        assert word in (source.last_error or "")
        assert "secret detail" not in (source.last_error or "")
        assert source.current() is keys
        assert stepped(source.keys("rsa-1")) is keys
        clock.now += 1
        assert source.current() is None
        assert word in await unavailable(source)
        script.answer = document(RSA)
        clock.now += 30
        assert await source.keys("rsa-1") is keys

    scene(play)


def test_without_keys_the_issuer_is_asked_once_in_a_cooldown() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        for _ in range(1000):
            await unavailable(source)
        assert script.reads == 1
        clock.now += 30
        await unavailable(source)
        assert script.reads == 2

    scene(play, DocumentError("down"))


def test_running_keeps_the_keys_fresh() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(source.run())
            await asyncio.sleep(0.01)
            assert source.current() is not None
            script.answer = document(EC)
            await asyncio.sleep(0.1)
            now = source.current()
            assert now is not None
            assert now.knows("ec-1")
            running.cancel()

    scene(play, refresh_s=0.02)


def test_a_changed_key_file_is_taken_within_its_own_period(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "jwks.json"
        file.write_bytes(document(RSA))
        async with asyncio.TaskGroup() as group:
            source = JwksSource(FileDocument(path=file, refresh_s=0.02), spawn=group.create_task)
            assert (await source.keys("rsa-1")).knows("rsa-1")
            running = group.create_task(source.run())
            file.write_bytes(document(EC))
            async with asyncio.timeout(5):
                while not (await source.keys(None)).knows("ec-1"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert not (await source.keys(None)).knows("rsa-1")
            running.cancel()

    asyncio.run(main())


def test_running_outlives_failures_and_starts_no_second_read() -> None:
    async def play(source: JwksSource, script: Script, clock: Clock) -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(source.run())
            await asyncio.sleep(0.05)
            assert script.reads > 1
            script.gate = asyncio.Event()
            script.answer = document(RSA)
            await asyncio.sleep(0.05)
            before = script.reads
            await asyncio.sleep(0.1)
            assert script.reads == before
            script.gate.set()
            await asyncio.sleep(0.02)
            assert source.current() is not None
            running.cancel()

    scene(play, OSError("down"), refresh_s=0.02, cooldown_s=0.01)


def test_a_group_that_is_closing_starts_nothing() -> None:
    async def main() -> None:
        def spawn(_: Coroutine[Any, Any, None]) -> None:
            raise RuntimeError("the group is shutting down")

        source = JwksSource(Script(document(RSA)), spawn=spawn)
        assert "shutting down" in await unavailable(source)

    asyncio.run(main())


def test_a_read_that_is_cancelled_wakes_who_waits() -> None:
    async def main() -> None:
        script = Script(document(RSA))
        script.gate = asyncio.Event()
        started: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        source = JwksSource(script, spawn=lambda work: started.append(loop.create_task(work)))
        asker = loop.create_task(source.keys("rsa-1"))
        await asyncio.sleep(0.01)
        started[0].cancel()
        with pytest.raises(Unauthenticated, match="cannot be had"):
            await asker
        assert source.last_error == "the read was cut short"

    asyncio.run(main())


def test_against_a_real_issuer_that_misbehaves() -> None:
    fetcher = Fetcher.trusting(None, allow_loopback_http=True, timeout_s=0.3)

    async def over_http(issuer: Issuer, group: asyncio.TaskGroup) -> None:
        clock = Clock()
        source = JwksSource(
            UrlDocument(url=issuer.url + "/jwks", fetcher=fetcher), spawn=group.create_task, clock=clock
        )
        keys = await source.keys("rsa-1")
        faults: dict[str, Callable[[], None]] = {
            "answered 500": lambda: issuer.answer("/jwks", document(EC), status=500),
            "answered 302": lambda: issuer.answer("/jwks", b"", status=302, headers={"Location": "/other"}),
            "larger": lambda: issuer.answer("/jwks", b" " * 2**21),
            "not valid json": lambda: issuer.answer("/jwks", b"<html>busy</html>"),
            "no usable key": lambda: issuer.answer("/jwks", b'{"keys": []}'),
            "longer than": lambda: issuer.answers.update({"/jwks": silent(5)}),
        }
        for word, misbehave in faults.items():
            misbehave()
            clock.now += 30
            assert await source.keys("new-1") is keys
            assert word in (source.last_error or "")
        issuer.answer("/jwks", document(RSA, EC))
        clock.now += 30
        assert (await source.keys("ec-1")).knows("ec-1")
        assert source.last_error is None
        assert set(issuer.seen) == {"/jwks"}
        assert len(issuer.seen) == len(faults) + 2

    async def main() -> None:
        async with running_issuer() as issuer, asyncio.TaskGroup() as group:
            await over_http(issuer, group)

    asyncio.run(main())
