"""What callers learn while the disk is full or failing, and that recovery loses and tears nothing (R40, R42)."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.audit.disks import Disk, limited_files, small_disk
from tests.audit.spooled import bodies, body, intact, numbers, run, until
from ztproxy.audit.recorder import Recorder
from ztproxy.audit.spool import list_segments
from ztproxy.audit.verify import FaultKind, verify
from ztproxy.errors import AuditUnavailable


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
