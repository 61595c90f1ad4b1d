"""The files: who may write, what a crash leaves and how it is put right, what is refused."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from ztproxy.audit.seal import LINE_BYTES_MAX, Sealer, genesis
from ztproxy.audit.spool import Recovered, Spool, SpoolError, list_segments, read_lines, segment_name

FRESH = "fresh"


def fill(directory: Path, number: int = 3) -> list[bytes]:
    spool = Spool(directory)
    position, _ = spool.open(None, FRESH)
    sealer = Sealer(position)
    lines = [sealer.seal(b'{"n":%d}' % n) for n in range(number)]
    for line in lines:
        assert spool.write(line) == len(line)
    spool.sync()
    spool.close()
    return lines


def only_segment(directory: Path) -> Path:
    (segment,) = list_segments(directory)
    return segment.path


def reopen(directory: Path) -> tuple[int, Recovered | None]:
    spool = Spool(directory)
    position, recovered = spool.open(None, "other")
    spool.close()
    return position.seq, recovered


class TestOpen:
    def test_a_fresh_spool_belongs_to_its_owner_alone(self, tmp_path: Path) -> None:
        directory = tmp_path / "a" / "spool"
        spool = Spool(directory)
        assert spool.open(None, FRESH) == (genesis(FRESH), None)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in directory.iterdir()} == {"lock", segment_name(FRESH, 1)}
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())
        assert (spool.segment, spool.size, spool.dirty) == (segment_name(FRESH, 1), 0, False)
        spool.close()
        spool.close()

    def test_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        fill(tmp_path)
        assert reopen(tmp_path) == (3, None)
        fill(tmp_path, 2)
        assert reopen(tmp_path) == (5, None)

    def test_two_writers_are_refused(self, tmp_path: Path) -> None:
        first = Spool(tmp_path)
        first.open(None, FRESH)
        with pytest.raises(SpoolError, match="another process writes"):
            Spool(tmp_path).open(None, FRESH)
        first.close()
        assert reopen(tmp_path)[0] == 0

    def test_a_directory_others_may_write_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(SpoolError, match="chmod 700"):
            Spool(tmp_path).open(None, FRESH)

    def test_a_file_in_its_place_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError):
            Spool(tmp_path / "file").open(None, FRESH)

    def test_a_named_chain_starts_beside_another_and_then_must_be_named(self, tmp_path: Path) -> None:
        fill(tmp_path)
        spool = Spool(tmp_path)
        assert spool.open("second", "x")[0] == genesis("second")
        spool.close()
        with pytest.raises(SpoolError, match="fresh, second; name one"):
            reopen(tmp_path)
        assert spool.open("fresh", "x")[0].seq == 3
        spool.close()

    def test_a_bad_chain_id_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="chain id"):
            Spool(tmp_path).open("../x", FRESH)


class TestRecovery:
    def test_a_tail_torn_at_any_byte_is_cut_and_named(self, tmp_path: Path) -> None:
        lines = fill(tmp_path)
        path = only_segment(tmp_path)
        whole = path.read_bytes()
        kept = len(lines[0] + lines[1])
        for size in range(kept + 1, len(whole)):
            path.write_bytes(whole[:size])
            torn = whole[kept:size]
            expected = Recovered(
                segment=path.name, offset=kept, size_bytes=len(torn), sha256=hashlib.sha256(torn).hexdigest()
            )
            assert reopen(tmp_path) == (2, expected)
            assert path.read_bytes() == whole[:kept]

    @pytest.mark.parametrize("junk", [b"\0" * 5000, b"x\ny\nz", b"\n\n", b"z" * (LINE_BYTES_MAX * 2)])
    def test_bytes_a_power_cut_leaves_are_cut(self, tmp_path: Path, junk: bytes) -> None:
        fill(tmp_path)
        with only_segment(tmp_path).open("ab") as file:
            file.write(junk)
        seq, recovered = reopen(tmp_path)
        assert seq == 3
        assert recovered is not None
        assert recovered.size_bytes == len(junk)
        assert reopen(tmp_path) == (3, None)

    def test_a_broken_line_with_sealed_ones_after_it_is_left_alone(self, tmp_path: Path) -> None:
        fill(tmp_path)
        path = only_segment(tmp_path)
        broken = path.read_bytes().replace(b'{"n":1}', b'{"n":7}')
        path.write_bytes(broken)
        with pytest.raises(SpoolError, match="holds record 3 after that"):
            reopen(tmp_path)
        assert path.read_bytes() == broken

    def test_a_first_segment_torn_in_its_first_line_starts_over(self, tmp_path: Path) -> None:
        fill(tmp_path, 1)
        path = only_segment(tmp_path)
        path.write_bytes(path.read_bytes()[:20])
        seq, recovered = reopen(tmp_path)
        assert (seq, recovered is not None, path.read_bytes()) == (0, True, b"")

    @pytest.mark.parametrize("tail", [b"", b'{"body":'])
    def test_a_later_segment_without_a_whole_record_is_dropped(self, tmp_path: Path, tail: bytes) -> None:
        fill(tmp_path)
        (tmp_path / segment_name(FRESH, 4)).write_bytes(tail)
        seq, recovered = reopen(tmp_path)
        assert (seq, recovered is None) == (3, tail == b"")
        assert len(list_segments(tmp_path)) == 1

    def test_two_damaged_segments_are_no_crash(self, tmp_path: Path) -> None:
        fill(tmp_path)
        path = only_segment(tmp_path)
        path.write_bytes(path.read_bytes()[:-1])
        (tmp_path / segment_name(FRESH, 4)).write_bytes(b"torn")
        with pytest.raises(SpoolError, match="both damaged"):
            reopen(tmp_path)

    def test_a_lone_later_segment_without_a_record_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / segment_name(FRESH, 4)).write_bytes(b"torn")
        with pytest.raises(SpoolError, match="no whole record"):
            reopen(tmp_path)

    def test_continues_a_later_segment_whose_first_line_is_longer_than_a_block(self, tmp_path: Path) -> None:
        fill(tmp_path)
        spool = Spool(tmp_path)
        position, _ = spool.open(None, FRESH)
        sealer = Sealer(position)
        spool.start_segment(FRESH, 4)
        body = b'{"x":"' + b"y" * (1024 * 1024 - 8) + b'"}'
        for _ in range(3):
            spool.write(sealer.seal(body))
        spool.close()
        assert reopen(tmp_path) == (6, None)

    def test_a_segment_under_a_wrong_name_is_refused(self, tmp_path: Path) -> None:
        fill(tmp_path)
        path = only_segment(tmp_path)
        path.rename(tmp_path / segment_name(FRESH, 9))
        with pytest.raises(SpoolError, match="holds record 1 after that"):
            reopen(tmp_path)


class TestSync:
    def test_dirty_until_synced(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.open(None, FRESH)
        spool.write(b"x")
        assert spool.dirty
        spool.sync()
        assert not spool.dirty
        spool.close()

    def test_after_a_failed_sync_the_bytes_are_written_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool = Spool(tmp_path)
        spool.open(None, FRESH)
        spool.write(b"old")
        spool.sync()
        spool.write(b"new")
        written: list[tuple[bytes, int]] = []

        def pwrite(file: int, data: bytes, offset: int) -> int:
            written.append((data, offset))
            return real_pwrite(file, data, offset)

        def refuse(file: int) -> None:
            raise OSError(errno.EIO, "media error")

        real_pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", pwrite)
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", refuse)
            with pytest.raises(OSError, match="media error"):
                spool.sync()
        assert spool.dirty
        spool.sync()
        assert written == [(b"new", 3)]
        assert not spool.dirty
        assert only_segment(tmp_path).read_bytes() == b"oldnew"
        spool.close()

    def test_a_segment_shortened_under_us_is_an_error_then(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool = Spool(tmp_path)
        spool.open(None, FRESH)
        spool.write(b"abc")
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", lambda file: os.close(-1))
            with pytest.raises(OSError):
                spool.sync()
        os.truncate(only_segment(tmp_path), 0)
        with pytest.raises(OSError, match="shorter"):
            spool.sync()
        spool.close()

    def test_a_deleted_segment_is_an_error_and_a_new_one_may_follow(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.open(None, FRESH)
        only_segment(tmp_path).unlink()
        with pytest.raises(OSError, match="removed"):
            spool.sync()
        spool.start_segment(FRESH, 1)
        assert not spool.removed
        spool.sync()
        spool.close()

    def test_a_segment_that_exists_already_keeps_the_old_one_current(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.open(None, FRESH)
        (tmp_path / segment_name(FRESH, 5)).touch()
        with pytest.raises(FileExistsError):
            spool.start_segment(FRESH, 5)
        assert spool.segment == segment_name(FRESH, 1)
        spool.close()


def test_segments_sort_by_chain_and_number_and_nothing_else_counts(tmp_path: Path) -> None:
    for name in ("b-2", "a-11", "a-2"):
        chain, _, first = name.partition("-")
        (tmp_path / segment_name(chain, int(first))).touch()
    for other in ("lock", "a-1.jsonl", "A-00000000000000000001.jsonl", "-00000000000000000001.jsonl"):
        (tmp_path / other).touch()
    assert [(segment.chain, segment.first_seq) for segment in list_segments(tmp_path)] == [
        ("a", 2),
        ("a", 11),
        ("b", 2),
    ]


def test_read_lines_bounds_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a\n" + b"z" * (5 * LINE_BYTES_MAX))
    seen = list(read_lines(path))
    assert all(len(rest) <= LINE_BYTES_MAX for _, rest in seen)
    assert sum(len(line) for lines, _ in seen for line in lines) + len(seen[-1][1]) == 1 + 5 * LINE_BYTES_MAX
