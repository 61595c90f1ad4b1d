"""Pools of upstream connections for tests: in front of a real server, on either loop, with holders that tell."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.authn.tokens import stepped
from tests.fakes.gate import NETWORK, NOBODY, MemoryRecorder, ask, make_gate, route
from tests.fakes.pki import SERVER, TestAuthority
from tests.fakes.upstream import Upstream as Server
from tests.proxy.wires import soon
from ztproxy.errors import AccessError, UpstreamError
from ztproxy.gate import Grant
from ztproxy.proxy import upstream as module
from ztproxy.proxy.upstream import Upstream, UpstreamConnection, UpstreamTarget
from ztproxy.types import RouteLimits
from ztproxy.wire.response import ResponseHead

Factory = Callable[[], asyncio.AbstractEventLoop]
Scenario = Callable[["Pool"], Awaitable[None]]


def grant(name: str = "orders", *, connect_s: float = 3.0) -> Grant:
    gate = make_gate(MemoryRecorder(), routes=[route(name, anonymous=True, limits=RouteLimits(connect_s=connect_s))])
    return stepped(gate.admit(NETWORK, NOBODY, ask()))


class Holder:
    """Whoever holds a connection; tells what happened to it."""

    method = "GET"

    def __init__(self) -> None:
        self.failures: list[UpstreamError] = []
        self.when_failed: Callable[[], object] = lambda: None
        self.answers: list[int] = []
        self.finished = False
        self.when_finished: Callable[[], object] = lambda: None

    def interim(self, head: ResponseHead) -> None:
        raise AssertionError("no interim answers here")

    def answer(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        self.answers.append(head.status)

    def answer_body(self, body: bytes, *, last: bool) -> None:
        self.finished = last
        if last:
            self.when_finished()

    def upstream_failed(self, error: UpstreamError) -> None:
        self.failures.append(error)
        self.when_failed()

    def upstream_paused(self) -> None:
        raise AssertionError("nothing is sent here")

    upstream_resumed = upstream_paused


class Broken:
    """A loop with a bug."""

    def __init__(self) -> None:
        self.create_future = asyncio.get_running_loop().create_future

    async def create_connection(self, *_: Any, **__: Any) -> None:
        """Always fails."""
        raise LookupError("no such codec")


class Pool:
    """An `Upstream` on the running loop in front of a real server."""

    server: Server

    def __init__(self, port: int, *, limit: int = 100, loop: Any = None, **target: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.after_dial: Callable[[], object] = lambda: None
        self.upstream = Upstream(
            UpstreamTarget(route="orders", host="127.0.0.1", port=port, max_connections=limit, **target),
            loop or self.loop,
            self.spawn,
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of the scenario's own."""

        async def run() -> None:
            await coroutine
            self.after_dial()

        task = self.loop.create_task(run())
        self.tasks.add(task)
        return task

    async def open(self) -> UpstreamConnection:
        """A connection, or a failure within five seconds."""
        async with asyncio.timeout(5):
            return await self.upstream.open(grant())

    def opening(self) -> asyncio.Task[UpstreamConnection]:
        """The same, in a task."""
        return self.loop.create_task(self.open())

    async def settled(self) -> None:
        """Lets everything happen that is about to."""
        await asyncio.sleep(0.02)

    async def server_met(self, count: int) -> bool:
        """Whether exactly this many connections came to the server."""
        met = await asyncio.to_thread(soon, lambda: self.server.connections >= count)
        return met and self.server.connections == count

    async def server_dies(self) -> None:
        """Cuts every connection at the server's end."""
        server = self.server
        await asyncio.to_thread(soon, lambda: len(server._sockets) == server.connections - server.closed > 0)
        server.cut()

    async def close(self) -> None:
        """Ends every connection, and sees that nothing goes on."""
        self.upstream.close()
        await self.settled()
        assert all(task.done() for task in self.tasks)


@contextmanager
def server(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    running = Server(tls=tls)
    try:
        yield running
    finally:
        running.close()


def pooled(**how: float) -> Callable[[Scenario], Callable[[Factory], None]]:
    """A scenario with a pool in front of a server that never speaks first, on either loop.

    `limit` bounds the pool; every other name is a constant of its module, shortened.
    """
    limit = int(how.pop("limit", 100))

    def decorate(scenario: Scenario) -> Callable[[Factory], None]:
        async def whole(running: Server) -> None:
            pool = Pool(running.port, limit=limit)
            pool.server = running
            try:
                await scenario(pool)
            finally:
                await pool.close()

        def test(loop_factory: Factory) -> None:
            with (
                patch.dict(vars(module), how),
                server() as running,
                asyncio.Runner(loop_factory=loop_factory) as runner,
            ):
                runner.run(whole(running))
                assert soon(lambda: running.closed == running.connections)

        return test

    return decorate


@contextmanager
def hanging() -> Iterator[int]:
    """A port whose connections are never accepted and soon not even answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        clients = [socket.socket() for _ in range(3)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port
        for client in clients:
            client.close()


def failure(factory: Factory, port: int, *, connect_s: float = 3.0, **target: Any) -> AccessError:
    """How a dial fails; the place it took is free again afterwards."""

    async def scenario() -> AccessError:
        pool = Pool(port, limit=1, **target)
        errors = []
        for _ in range(2):
            with pytest.raises(AccessError) as failed:
                await pool.upstream.open(grant(connect_s=connect_s))
            errors.append(failed.value)
        assert errors[0].code == errors[1].code
        await pool.close()
        return errors[0]

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(scenario())


def tls_server(pki: TestAuthority, name: str, *, client_ca: Path | None = None) -> ssl.SSLContext:
    leaf = pki.issue(name, usages=SERVER, names=(name,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.certificate, leaf.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context
