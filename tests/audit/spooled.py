"""What the recorder's tests look at: bodies to write, and what stands in a spool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ztproxy.audit.spool import list_segments
from ztproxy.audit.verify import verify


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
