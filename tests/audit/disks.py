"""Disks that fill up on command: a small tmpfs where mounting is allowed, else a limit on file sizes."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Somewhere to put a spool, whose room can end and come back."""

    path: Path

    def fill(self, room_bytes: int) -> None:
        """Leave about this much room for the one segment there."""

    def free(self) -> None:
        """Give all the room back."""


class LimitedFiles:
    """Every file of this process ends at a size; the write that crosses it is short, the next one fails with EFBIG."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, room_bytes: int) -> None:
        largest = max((file.stat().st_size for file in self.path.rglob("*.jsonl")), default=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + room_bytes, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class SmallTmpfs:
    """A tmpfs of 1 MiB; ENOSPC once a filler has taken the rest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, room_bytes: int) -> None:
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096) == 4096:
                    pass
            except OSError:
                pass
            file.truncate(max(0, file.tell() - room_bytes // 4096 * 4096))

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def limited_files(path: Path) -> Iterator[Disk]:
    """A disk made of a size limit; works everywhere."""
    disk = LimitedFiles(path)
    try:
        yield disk
    finally:
        disk.free()


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A real small file system where this process may mount one, else `limited_files`."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        with limited_files(path) as disk:
            yield disk
        return
    try:
        yield SmallTmpfs(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
