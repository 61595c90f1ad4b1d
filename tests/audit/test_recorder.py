"""The two durability promises, and what callers learn when they cannot be kept (reliability R40-R42)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.audit.spooled import bodies, body, intact, numbers, run, until
from ztproxy.audit.recorder import Recorder
from ztproxy.audit.spool import list_segments
from ztproxy.audit.verify import FaultKind, verify
from ztproxy.errors import AuditUnavailable


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
