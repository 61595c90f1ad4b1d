"""A process that records until it is killed; prints the number of each record once it may be acted on.

Arguments: the spool, the first number. Even numbers are flushed, odd ones waited for until durable.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from ztproxy.audit.recorder import Recorder


async def record(spool: Path, number: int) -> None:
    recorder = Recorder(spool, segment_bytes=200_000, sync_every_s=0.01)
    recorder.open()
    while True:
        body = b'{"n":%d,"x":"%b"}' % (number, b"y" * 3000)
        if number % 2:
            await recorder.durable(body)
        else:
            recorder.append(body)
            recorder.flush()
            await asyncio.sleep(0)
        os.write(1, b"%d\n" % number)
        number += 1


asyncio.run(record(Path(sys.argv[1]), int(sys.argv[2])))
