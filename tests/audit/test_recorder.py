"""The two durability promises, and what callers learn when they cannot be kept (reliability R40-R42)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.audit.disks import Disk, limited_files, small_disk
from ztproxy.audit.recorder import Recorder
from ztproxy.audit.spool import list_segments
from ztproxy.audit.verify import FaultKind, verify
from ztproxy.errors import AuditUnavailable


def body(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"x":"%b"}' % (number, b"y" * size)


def bodies(spool: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)["body"]
        for segment in list_segments(spool)
        for line in segment.path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def numbers(spool: Path) -> list[int]:
    return [record["n"] for record in bodies(spool) if "n" in record]


def intact(spool: Path) -> bool:
    report = verify(spool)
    assert report.faults == ()
    return report.intact


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


class TestBuffered:
    def test_a_turn_is_in_the_file_after_flush_in_one_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writes: list[int] = []
        real_write = os.write

        def write(file: int, data: bytes) -> int:
            writes.append(file)
            return real_write(file, data)

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            monkeypatch.setattr(os, "write", write)
            assert not recorder.pending
            for number in range(3):
                recorder.append(body(number))
            assert recorder.pending
            assert numbers(tmp_path) == []
            recorder.flush()
            assert not recorder.pending
            assert numbers(tmp_path) == [0, 1, 2]
            assert len(writes) == 1
            recorder.flush()
            assert len(writes) == 1
            monkeypatch.undo()
            recorder.close()

        run(scenario)
        assert intact(tmp_path)

    def test_a_turn_nobody_flushes_is_flushed_at_its_end(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            recorder.append(body(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert numbers(tmp_path) == [1]
            recorder.append(body(2))
            recorder.close()
            await asyncio.sleep(0)

        run(scenario)
        assert numbers(tmp_path) == [1, 2]

    def test_the_disk_is_synced_within_the_time_promised_and_then_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        real = os.fdatasync

        def fdatasync(file: int) -> None:
            synced.append(threading.get_ident())
            real(file)

        async def scenario() -> None:
            monkeypatch.setattr(os, "fdatasync", fdatasync)
            recorder = Recorder(tmp_path, sync_every_s=0.05)
            recorder.open()
            for number in range(10):
                recorder.append(body(number))
                recorder.flush()
            await until(lambda: len(synced) == 1)
            await asyncio.sleep(0.2)
            assert len(synced) == 1
            assert synced[0] != threading.get_ident()
            recorder.append(body(11))
            await until(lambda: len(synced) == 2)
            recorder.close()

        run(scenario)

    def test_syncs_slower_than_their_interval_do_not_stop_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []

        def slow(file: int) -> None:
            time.sleep(0.05)
            sizes.append(os.fstat(file).st_size)

        async def scenario() -> None:
            recorder = Recorder(tmp_path, sync_every_s=0.01)
            recorder.open()
            monkeypatch.setattr(os, "fdatasync", slow)
            for number in range(20):
                recorder.append(body(number))
                recorder.flush()
                await asyncio.sleep(0.01)
            size = list_segments(tmp_path)[0].path.stat().st_size
            await until(lambda: bool(sizes) and sizes[-1] == size)
            assert len(sizes) > 2
            recorder.close()

        run(scenario)

    def test_short_writes_are_continued(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.write

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
            recorder.append(body(1))
            recorder.append(body(2))
            recorder.flush()
            assert numbers(tmp_path) == [1, 2]
            assert recorder.failing is None
            recorder.close()

        run(scenario)
        assert intact(tmp_path)

    def test_a_closed_recorder_takes_nothing(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            recorder.close()
            recorder.close()
            with pytest.raises(AuditUnavailable) as refused:
                recorder.append(body(1))
            assert refused.value.detail == "the recorder is closed"
            with pytest.raises(AuditUnavailable):
                recorder.durable(body(1))

        run(scenario)


class TestRequired:
    def test_many_share_one_sync_and_the_next_group_gathers_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        entered: list[int] = []
        real = os.fdatasync

        def fdatasync(file: int) -> None:
            entered.append(len(numbers(tmp_path)))
            assert gate.wait(5)
            real(file)

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            monkeypatch.setattr(os, "fdatasync", fdatasync)
            first = [recorder.durable(body(number)) for number in range(50)]
            await until(lambda: entered == [50])
            second = [recorder.durable(body(number)) for number in range(50, 60)]
            recorder.append(body(60))
            recorder.flush()
            await asyncio.sleep(0.02)
            assert not any(future.done() for future in first + second)
            gate.set()
            for future in first + second:
                await future
            assert entered == [50, 61]
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == list(range(61))
        assert intact(tmp_path)

    def test_a_coroutine_stepped_by_hand_may_wait_for_it(self, tmp_path: Path) -> None:
        async def stage(recorder: Recorder) -> str:
            await recorder.durable(body(1))
            return "recorded"

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[tuple[str, object]] = loop.create_future()

            def step() -> None:
                stepped = stage(recorder)
                future = stepped.send(None)
                assert asyncio.current_task() is None

                def resume(_: object) -> None:
                    try:
                        stepped.send(None)
                    except StopIteration as end:
                        answer.set_result((end.value, asyncio.current_task()))

                future.add_done_callback(resume)

            loop.call_soon(step)
            assert await answer == ("recorded", None)
            recorder.close()

        run(scenario)

    def test_who_gives_up_waiting_disturbs_nobody(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            lost, kept = recorder.durable(body(1)), recorder.durable(body(2))
            lost.cancel()
            await kept
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [1, 2]

    def test_close_answers_those_who_wait(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            future = recorder.durable(body(1))
            recorder.flush()
            late = recorder.durable(body(2))
            recorder.close()
            assert future.done()
            assert late.done()
            await future
            await late
            await asyncio.sleep(0.01)

        run(scenario)
        assert intact(tmp_path)


@pytest.mark.parametrize("disk_kind", [limited_files, small_disk])
class TestDiskFull:
    def test_holds_what_comes_then_refuses_then_recovers_and_says_so(
        self, tmp_path: Path, disk_kind: Callable[[Path], AbstractContextManager[Disk]]
    ) -> None:
        async def scenario(disk: Disk) -> None:
            spool = disk.path / "spool"
            recorder = Recorder(spool, buffer_bytes=40_000, sync_every_s=0.05)
            recorder.open()
            recorder.append(body(0, 3000))
            recorder.flush()
            disk.fill(9000)
            accepted = 1
            refused = 0
            for number in range(1, 60):
                try:
                    recorder.append(body(number, 3000))
                    accepted += 1
                except AuditUnavailable:
                    refused += 1
                recorder.flush()
            assert recorder.failing in ("ENOSPC", "EFBIG")
            assert recorder.pending
            assert refused > 30
            assert accepted > 12
            started = time.monotonic()
            with pytest.raises(AuditUnavailable) as error:
                await recorder.durable(body(1000))
            assert (error.value.code, error.value.status) == ("audit.unavailable", 503)
            assert time.monotonic() - started < 1
            await asyncio.sleep(0.25)
            assert recorder.failing in ("ENOSPC", "EFBIG")
            disk.free()
            await until(lambda: recorder.failing is None)
            recorder.append(body(2000))
            await recorder.durable(body(2001))
            recorder.close()
            assert intact(spool)
            assert numbers(spool) == [*range(accepted), 2000, 2001]
            (gap,) = [record for record in bodies(spool) if record.get("event") == "audit.recovered"]
            assert bodies(spool)[accepted] == gap
            assert gap["cause"] == "spool-failed"
            assert gap["error"] in ("ENOSPC", "EFBIG")
            assert gap["refused"] == refused + 1
            assert 10 < gap["buffered"] <= accepted
            assert gap["from"] <= gap["until"] <= gap["at"]

        with disk_kind(tmp_path) as disk:
            asyncio.run(scenario(disk))

    def test_those_who_wait_are_told_within_a_second(
        self, tmp_path: Path, disk_kind: Callable[[Path], AbstractContextManager[Disk]]
    ) -> None:
        async def scenario(disk: Disk) -> None:
            spool = disk.path / "spool"
            recorder = Recorder(spool)
            recorder.open()
            recorder.append(body(0, 3000))
            recorder.flush()
            disk.fill(0)
            started = time.monotonic()
            waiting = [recorder.durable(body(number, 5000)) for number in range(1, 4)]
            for future in waiting:
                with pytest.raises(AuditUnavailable):
                    await future
            assert time.monotonic() - started < 1
            disk.free()
            recorder.close()
            assert intact(spool)
            assert numbers(spool) == [0, 1, 2, 3]
            assert bodies(spool)[-1]["event"] == "audit.recovered"

        with disk_kind(tmp_path) as disk:
            asyncio.run(scenario(disk))

    def test_closing_while_it_is_full_says_that_records_are_lost(
        self, tmp_path: Path, disk_kind: Callable[[Path], AbstractContextManager[Disk]]
    ) -> None:
        async def scenario(disk: Disk) -> None:
            spool = disk.path / "spool"
            recorder = Recorder(spool)
            recorder.open()
            recorder.append(body(0))
            recorder.flush()
            disk.fill(0)
            for number in range(1, 10):
                recorder.append(body(number, 1000))
            recorder.flush()
            with pytest.raises(AuditUnavailable) as lost:
                recorder.close()
            assert "may be lost" in lost.value.detail
            disk.free()
            again = Recorder(spool)
            again.open()
            again.close()
            assert intact(spool)

        with disk_kind(tmp_path) as disk:
            asyncio.run(scenario(disk))


class TestFailingDisk:
    def test_refuses_after_the_time_bound_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(file: int, data: bytes) -> int:
            raise OSError(errno.EIO, "broken")

        async def scenario() -> None:
            recorder = Recorder(tmp_path, buffer_s=0.1)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "write", full)
                recorder.append(body(1))
                recorder.flush()
                recorder.append(body(2))
                await asyncio.sleep(0.15)
                with pytest.raises(AuditUnavailable) as refused:
                    recorder.append(body(3))
                assert refused.value.detail == "EIO"
            await until(lambda: recorder.failing is None)
            recorder.append(body(4))
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [1, 2, 4]
        assert intact(tmp_path)

    def test_a_failed_sync_fails_the_group_and_nothing_is_written_twice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken_sync(file: int) -> None:
            raise OSError(errno.EIO, "media error")

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "fdatasync", broken_sync)
                first = recorder.durable(body(1))
                recorder.flush()
                second = recorder.durable(body(2))
                recorder.flush()
                for future in (first, second):
                    with pytest.raises(AuditUnavailable):
                        await future
                assert recorder.failing == "EIO"
                recorder.append(body(3))
                recorder.flush()
                assert numbers(tmp_path) == [1, 2, 3]
                await asyncio.sleep(0.25)
                assert recorder.failing == "EIO"
            await until(lambda: recorder.failing is None)
            await recorder.durable(body(4))
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [1, 2, 3, 4]
        assert [record["error"] for record in bodies(tmp_path) if "error" in record] == ["EIO"]
        assert intact(tmp_path)

    def test_a_sync_that_hangs_fails_those_who_wait_but_not_the_writing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        real = os.fdatasync

        def hang(file: int) -> None:
            assert gate.wait(10)
            real(file)

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            monkeypatch.setattr(os, "fdatasync", hang)
            first = recorder.durable(body(1))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            second = recorder.durable(body(2))
            for future in (first, second):
                with pytest.raises(AuditUnavailable):
                    await future
            assert time.monotonic() - started < 1
            assert recorder.failing == "ETIMEDOUT"
            recorder.append(body(3))
            recorder.flush()
            assert numbers(tmp_path) == [1, 2, 3]
            await asyncio.sleep(0.15)
            gate.set()
            await until(lambda: recorder.failing is None)
            await recorder.durable(body(4))
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [1, 2, 3, 4]
        assert intact(tmp_path)

    def test_catching_up_takes_several_turns_and_keeps_the_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "full")

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "write", full)
                for number in range(12):
                    recorder.append(body(number, 1_000_000))
                recorder.flush()
            await until(lambda: recorder.failing is None)
            recorder.append(body(12))
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == list(range(13))
        assert intact(tmp_path)

    def test_records_that_come_while_recovery_is_proven_are_not_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "write", lambda file, data: os.pwrite(-1, data, 0))
                recorder.append(body(0))
                recorder.flush()
            number = 0
            while recorder.failing is not None:
                number += 1
                recorder.append(body(number))
                await asyncio.sleep(0.001)
            recorder.close()
            assert numbers(tmp_path) == list(range(number + 1))

        run(scenario)
        assert intact(tmp_path)

    def test_a_deleted_segment_is_noticed_and_a_new_one_begun(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path, sync_every_s=0.02)
            recorder.open()
            await recorder.durable(body(1))
            list_segments(tmp_path)[0].path.unlink()
            with pytest.raises(AuditUnavailable):
                await recorder.durable(body(2))
            assert recorder.failing == "ESTALE"
            recorder.append(body(3))
            await until(lambda: recorder.failing is None)
            recorder.append(body(4))
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [3, 4]
        (fault,) = verify(tmp_path).faults
        assert fault.kind is FaultKind.MISSING_SEGMENT
        assert "records 1 to 2 are missing" in fault.message

    def test_a_new_segment_that_cannot_be_made_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_files(path: object, flags: int, mode: int = 0o777) -> int:
            raise OSError(errno.EMFILE, "too many open files")

        async def scenario() -> None:
            recorder = Recorder(tmp_path, segment_bytes=1000)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "open", no_files)
                await recorder.durable(body(1, 2000))
                await recorder.durable(body(2, 2000))
                assert recorder.failing is None
            await recorder.durable(body(3))
            await recorder.durable(body(4))
            recorder.close()

        run(scenario)
        assert [segment.first_seq for segment in list_segments(tmp_path)] == [1, 4]
        assert intact(tmp_path)

    def test_a_deleted_directory_is_reported_until_it_is_back(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            spool = tmp_path / "spool"
            recorder = Recorder(spool)
            recorder.open()
            for entry in spool.iterdir():
                entry.unlink()
            spool.rmdir()
            with pytest.raises(AuditUnavailable):
                await recorder.durable(body(1))
            recorder.append(body(2))
            await asyncio.sleep(0.25)
            assert recorder.failing == "ENOENT"
            spool.mkdir(mode=0o700)
            await until(lambda: recorder.failing is None)
            recorder.close()
            assert numbers(spool) == [2]

        run(scenario)

    def test_closing_after_the_disk_came_back_writes_all_that_was_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "full")

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            with monkeypatch.context() as broken:
                broken.setattr(os, "write", full)
                for number in range(9):
                    recorder.append(body(number, 1_000_000))
                recorder.flush()
            recorder.close()

        run(scenario)
        assert numbers(tmp_path) == list(range(9))
        assert bodies(tmp_path)[-1]["event"] == "audit.recovered"
        assert intact(tmp_path)

    def test_a_second_failure_is_a_second_story(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(file: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "full")

        async def scenario() -> None:
            recorder = Recorder(tmp_path)
            recorder.open()
            for number in range(2):
                with monkeypatch.context() as broken:
                    broken.setattr(os, "write", full)
                    recorder.append(body(number))
                    recorder.flush()
                await until(lambda: recorder.failing is None)
                await asyncio.sleep(0.15)
            recorder.close()

        run(scenario)
        assert [record.get("n", record.get("event")) for record in bodies(tmp_path)] == [
            0,
            "audit.recovered",
            1,
            "audit.recovered",
        ]
        assert intact(tmp_path)


class TestSegments:
    def test_a_full_segment_is_followed_by_the_next(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path, segment_bytes=5000)
            recorder.open()
            for number in range(40):
                recorder.append(body(number, 300))
                if number % 3 == 0:
                    await recorder.durable(body(1000 + number))
            recorder.close()

        run(scenario)
        assert len(list_segments(tmp_path)) > 2
        assert len(numbers(tmp_path)) == 54
        assert intact(tmp_path)


class TestOpen:
    def test_a_new_process_continues_the_chain(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            for number in range(3):
                recorder = Recorder(tmp_path)
                recorder.open()
                assert recorder.position.seq == number
                recorder.append(body(number))
                recorder.close()

        run(scenario)
        assert numbers(tmp_path) == [0, 1, 2]
        assert intact(tmp_path)

    def test_the_first_record_after_a_torn_tail_says_what_was_cut(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            recorder = Recorder(tmp_path, chain_id="node-1")
            recorder.open()
            recorder.append(body(0))
            recorder.append(body(1))
            recorder.close()
            (segment,) = list_segments(tmp_path)
            whole = segment.path.read_bytes()
            segment.path.write_bytes(whole[:-10])
            again = Recorder(tmp_path)
            again.open()
            gap = bodies(tmp_path)[-1]
            first = whole.index(b"\n") + 1
            assert (gap["event"], gap["cause"]) == ("audit.recovered", "torn-tail")
            assert (gap["cut_offset"], gap["cut_bytes"]) == (first, len(whole) - 10 - first)
            assert gap["segment"] == segment.path.name
            again.close()

        run(scenario)
        assert numbers(tmp_path) == [0]
        assert intact(tmp_path)

    def test_what_cannot_be_opened_is_unavailable_with_the_reason(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            first = Recorder(tmp_path)
            first.open()
            with pytest.raises(AuditUnavailable) as refused:
                Recorder(tmp_path).open()
            assert "another process writes" in refused.value.detail
            first.close()
            with pytest.raises(AuditUnavailable) as refused:
                Recorder(tmp_path, chain_id="NO").open()
            assert "chain id" in refused.value.detail

        run(scenario)


class TestKill:
    def test_kill_9_in_mid_write_loses_no_acknowledged_record(self, tmp_path: Path) -> None:
        """Ten processes one after the other on one spool, each killed at a random moment."""
        moments = random.Random(41)
        acknowledged: list[int] = []
        script = str(Path(__file__).with_name("recording_child.py"))
        for _ in range(10):
            first = acknowledged[-1] + 1000 if acknowledged else 0
            first += first % 2
            child = subprocess.Popen([sys.executable, script, str(tmp_path), str(first)], stdout=subprocess.PIPE)
            assert child.stdout is not None
            said = child.stdout.readline()
            time.sleep(moments.uniform(0, 0.1))
            os.kill(child.pid, signal.SIGKILL)
            said += child.stdout.read()
            child.stdout.close()
            assert child.wait() == -signal.SIGKILL
            acknowledged += [int(line) for line in said.splitlines(keepends=True) if line.endswith(b"\n")]
            assert {fault.kind for fault in verify(tmp_path).faults} <= {FaultKind.TORN_TAIL}

            async def reopen() -> None:
                recorder = Recorder(tmp_path)
                recorder.open()
                recorder.close()

            asyncio.run(reopen())
            assert intact(tmp_path)
        assert len(acknowledged) > 50
        assert set(acknowledged) <= set(numbers(tmp_path))
        assert numbers(tmp_path) == sorted(numbers(tmp_path))
