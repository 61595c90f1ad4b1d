"""Nothing leaves in a turn of the loop before the records of that turn are written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from ztproxy.audit.recorder import Recorder
from ztproxy.proxy.turn import Turn

Factory = Callable[[], asyncio.AbstractEventLoop]


class Scribe:
    """A recorder, and everything that happened in order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self._queue: list[str] = []

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    def append(self, record: str) -> None:
        self._queue.append(record)

    def flush(self) -> None:
        self.happened += [f"recorded {record}" for record in self._queue]
        self._queue.clear()


class Line:
    """A transport that tells the scribe."""

    def __init__(self, scribe: Scribe, name: str) -> None:
        self._scribe = scribe
        self._name = name

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self._scribe.happened.append(f"{self._name} {data.decode()}")

    def close(self) -> None:
        self._scribe.happened.append(f"{self._name} closed")


def scene(act: Callable[[Turn, Scribe, Any, Any], None]) -> list[str]:
    """What happened, in order, when all this is done in one turn."""
    scribe = Scribe()

    async def turn() -> None:
        loop = asyncio.get_running_loop()
        act(Turn(loop, cast(Recorder, scribe)), scribe, Line(scribe, "a"), Line(scribe, "b"))
        scribe.happened.append("turn over")
        await asyncio.sleep(0)

    asyncio.run(turn())
    return scribe.happened


def test_without_a_record_bytes_leave_at_once() -> None:
    def act(turn: Turn, _: Scribe, a: Any, b: Any) -> None:
        turn.send(a, b"1")
        turn.close(b)

    assert scene(act) == ["a 1", "b closed", "turn over"]


def test_the_record_is_written_before_its_answer() -> None:
    def act(turn: Turn, scribe: Scribe, a: Any, _: Any) -> None:
        scribe.append("decision")
        turn.send(a, b"answer")

    assert scene(act) == ["turn over", "recorded decision", "a answer"]


def test_a_record_appended_after_the_send_still_goes_first() -> None:
    def act(turn: Turn, scribe: Scribe, a: Any, b: Any) -> None:
        scribe.append("one")
        turn.send(a, b"1")
        scribe.append("two")
        turn.send(b, b"2")

    assert scene(act) == ["turn over", "recorded one", "recorded two", "a 1", "b 2"]


def test_all_of_a_turn_leaves_in_the_order_of_the_calls() -> None:
    def act(turn: Turn, scribe: Scribe, a: Any, b: Any) -> None:
        turn.send(a, b"0")
        scribe.append("decision")
        turn.send(a, b"1")
        turn.send(b, b"2")
        turn.send(a, b"3")
        turn.close(a)
        turn.close(b)

    assert scene(act)[1:] == ["turn over", "recorded decision", "a 1", "b 2", "a 3", "a closed", "b closed"]


def test_a_close_waits_for_the_record_too() -> None:
    def act(turn: Turn, scribe: Scribe, a: Any, b: Any) -> None:
        scribe.append("decision")
        turn.close(a)
        turn.send(b, b"1")

    assert scene(act) == ["turn over", "recorded decision", "a closed", "b 1"]


def test_what_waits_is_not_overtaken_once_the_records_are_written() -> None:
    def act(turn: Turn, scribe: Scribe, a: Any, _: Any) -> None:
        scribe.append("decision")
        turn.send(a, b"1")
        scribe.flush()
        turn.send(a, b"2")
        turn.close(a)

    assert scene(act) == ["recorded decision", "turn over", "a 1", "a 2", "a closed"]


def test_every_turn_starts_anew() -> None:
    scribe = Scribe()

    async def turns() -> None:
        turn = Turn(asyncio.get_running_loop(), cast(Recorder, scribe))
        line = cast(asyncio.Transport, Line(scribe, "a"))
        for number in (b"1", b"2"):
            scribe.append(number.decode())
            turn.send(line, number)
            await asyncio.sleep(0)
        turn.send(line, b"3")

    asyncio.run(turns())
    assert scribe.happened == ["recorded 1", "a 1", "recorded 2", "a 2", "a 3"]


def run(factory: Factory, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario)


def test_a_connection_that_is_gone_does_not_hold_up_the_others(loop_factory: Factory, tmp_path: Path) -> None:
    """What was to be sent to it is lost; what was to be sent to others behind it is not."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(tmp_path / "spool")
        recorder.open()
        turn = Turn(loop, recorder)
        far = [socket.socketpair() for _ in "ab"]
        gone, well = [(await loop.create_connection(asyncio.Protocol, sock=near))[0] for near, _ in far]
        gone.abort()
        await asyncio.sleep(0.02)
        recorder.append(b'{"n":1}')
        turn.send(gone, b"to nobody")
        turn.send(well, b"to somebody")
        await asyncio.sleep(0.02)
        well.close()
        await asyncio.sleep(0.02)
        received = [end.recv(100) for _, end in far]
        for _, end in far:
            end.close()
        recorder.close()
        assert received == [b"", b"to somebody"]

    run(loop_factory, scenario())


def test_the_record_is_on_disk_when_the_bytes_leave(loop_factory: Factory, tmp_path: Path) -> None:
    """With the real recorder: whoever reads the answer finds the record of it in the spool."""
    seen: list[bytes] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(tmp_path / "spool")
        recorder.open()

        class Reader(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                assert data == b"answer"
                seen.extend(file.read_bytes() for file in (tmp_path / "spool").glob("*.jsonl"))

        server = await loop.create_server(Reader, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        recorder.append(b'{"event":"first"}')
        Turn(loop, recorder).send(transport, b"answer")
        await asyncio.sleep(0.05)
        transport.close()
        server.close()
        recorder.close()

    run(loop_factory, scenario())
    assert len(seen) == 1
    assert b'"event":"first"' in seen[0]
