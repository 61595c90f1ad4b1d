"""The pool: who gets which connection, who waits for how long, what a failed dial is called, and nothing leaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.authn.tokens import stepped
from tests.fakes.gate import NETWORK, NOBODY, MemoryRecorder, ask, make_gate, route
from tests.fakes.pki import CLIENT, SERVER, TestAuthority
from tests.fakes.upstream import Upstream as Server
from tests.proxy.inside import closed_port, soon
from ztproxy.errors import AccessError, Internal, Overloaded, UpstreamError
from ztproxy.gate import Grant
from ztproxy.proxy import upstream as module
from ztproxy.proxy.step import step
from ztproxy.proxy.tls import UpstreamTls, upstream_context
from ztproxy.proxy.upstream import Upstream, UpstreamConnection, UpstreamTarget
from ztproxy.types import RouteLimits
from ztproxy.wire.response import ResponseHead

Factory = Callable[[], asyncio.AbstractEventLoop]


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

    def interim(self, head: ResponseHead) -> None:
        raise AssertionError("no interim answers here")

    def answer(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        self.answers.append(head.status)

    def answer_body(self, body: bytes, *, last: bool) -> None:
        raise AssertionError("no bodies here")

    def upstream_failed(self, error: UpstreamError) -> None:
        self.failures.append(error)
        self.when_failed()

    def upstream_paused(self) -> None:
        raise AssertionError("nothing is sent here")

    upstream_resumed = upstream_paused


class Pool:
    """An `Upstream` on the running loop in front of a real server."""

    def __init__(self, port: int, *, limit: int = 100, **target: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.after_dial: Callable[[], object] = lambda: None
        self.upstream = Upstream(
            UpstreamTarget(route="orders", host="127.0.0.1", port=port, max_connections=limit, **target),
            self.loop,
            self.spawn,
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def run() -> None:
            await coroutine
            self.after_dial()

        task = self.loop.create_task(run())
        self.tasks.add(task)
        return task

    async def open(self) -> UpstreamConnection:
        async with asyncio.timeout(5):
            return await self.upstream.open(grant())

    def opening(self) -> asyncio.Task[UpstreamConnection]:
        return self.loop.create_task(self.open())

    async def settled(self) -> None:
        await asyncio.sleep(0.02)

    async def close(self) -> None:
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


def run(factory: Factory, scenario: Callable[[Pool, Server], Awaitable[None]], *, limit: int = 100) -> None:
    """A scenario with a pool in front of a server that never speaks first."""

    async def whole(running: Server) -> None:
        pool = Pool(running.port, limit=limit)
        await scenario(pool, running)
        await pool.close()

    with server() as running, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole(running))
        assert soon(lambda: running.closed == running.connections)


def test_the_connection_used_last_is_given_first(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        first, second, third = [await pool.open() for _ in range(3)]
        assert len({first, second, third}) == 3
        for each in (second, third, first):
            each.release()
        assert [await pool.open() for _ in range(3)] == [first, third, second]
        assert running.connections == 3

    run(loop_factory, scenario)


def test_an_idle_connection_is_given_without_waiting(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, _: Server) -> None:
        only = await pool.open()
        assert pool.upstream.idle(grant()) is None
        only.release()
        assert stepped(pool.upstream.open(grant())) is only
        only.release()
        assert pool.upstream.idle(grant()) is only

    run(loop_factory, scenario)


def test_a_fresh_connection_is_never_one_that_was_used(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, _: Server) -> None:
        used = await pool.open()
        assert used.reused is False
        used.release()
        fresh = await pool.upstream.open(grant(), fresh=True)
        assert (fresh is used, fresh.reused, used.reused) == (False, False, True)

    run(loop_factory, scenario)


def test_a_connection_not_to_be_kept_is_closed_not_pooled(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        first = await pool.open()
        first.keep = False
        first.release()
        second = await pool.open()
        assert second is not first
        second.abort()
        second.release()
        assert await pool.open() not in (first, second)
        assert running.connections == 3

    run(loop_factory, scenario)


def test_one_that_died_while_idle_is_not_given(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        first = await pool.open()
        first.release()
        await asyncio.to_thread(soon, lambda: running.connections == 1)
        running.cut()
        await pool.settled()
        assert pool.upstream.idle(grant()) is None
        assert await pool.open() is not first

    run(loop_factory, scenario)


def test_one_that_is_about_to_close_is_not_given(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, _: Server) -> None:
        first = await pool.open()
        first.release()
        first.transport.close()
        assert pool.upstream.idle(grant()) is None

    run(loop_factory, scenario)


def test_a_byte_while_idle_ends_the_connection(loop_factory: Factory) -> None:
    """Bytes nobody asked for would be taken for the next request's answer."""

    async def scenario(pool: Pool, running: Server) -> None:
        first = await pool.open()
        first.release()
        await asyncio.to_thread(soon, lambda: len(running._sockets) == 1)
        next(iter(running._sockets)).sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await pool.settled()
        assert pool.upstream.idle(grant()) is None

    run(loop_factory, scenario)


def test_at_the_limit_requests_are_served_in_the_order_they_came(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        only = await pool.open()
        order: list[int] = []

        async def wait(number: int) -> None:
            connection = await pool.open()
            order.append(number)
            connection.release()

        waiting = [pool.loop.create_task(wait(number)) for number in range(3)]
        await pool.settled()
        assert order == []
        only.release()
        for task in waiting:
            await task
        assert order == [0, 1, 2]
        assert running.connections == 1

    run(loop_factory, scenario, limit=1)


def test_a_connection_being_dialled_counts(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        opening = [pool.opening() for _ in range(4)]
        await asyncio.sleep(0.05)
        done = [task for task in opening if task.done()]
        assert len(done) == 2
        for task in done:
            task.result().release()
        for task in opening:
            await task
        assert running.connections == 2

    run(loop_factory, scenario, limit=2)


def test_one_that_waits_gets_the_place_of_one_that_broke(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        only = await pool.open()
        waiting = pool.opening()
        await pool.settled()
        only.abort()
        assert await waiting is not only
        assert running.connections == 2

    run(loop_factory, scenario, limit=1)


def test_a_place_given_to_one_that_waits_is_not_taken_by_another(loop_factory: Factory) -> None:
    """The exchange whose connection broke tries again in the very moment its place went to who waited longest."""

    async def scenario(pool: Pool, running: Server) -> None:
        only, holder = await pool.open(), Holder()
        waiting = pool.opening()
        await pool.settled()
        again: list[asyncio.Task[UpstreamConnection]] = []
        only.expect(holder)
        holder.when_failed = lambda: again.append(pool.opening())
        await asyncio.to_thread(soon, lambda: running.connections == 1)
        running.cut()
        first = await waiting
        await asyncio.sleep(0.05)
        assert [task.done() for task in again] == [False]
        first.release()
        assert await again[0] is first
        assert [error.code for error in holder.failures] == ["upstream.closed"]
        assert running.connections == 2

    run(loop_factory, scenario, limit=1)


def test_stepped_by_hand_in_that_moment_it_waits_too(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        only, holder = await pool.open(), Holder()
        waiting = pool.opening()
        await pool.settled()
        only.expect(holder)

        async def again() -> None:
            (await pool.upstream.open(grant(), fresh=True)).release()

        holder.when_failed = lambda: step(again(), pool.spawn)
        await asyncio.to_thread(soon, lambda: running.connections == 1)
        running.cut()
        first = await waiting
        await asyncio.sleep(0.05)
        assert running.connections == 2
        first.release()
        await asyncio.sleep(0.05)

    run(loop_factory, scenario, limit=1)


def test_who_waits_too_long_is_told(loop_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUEUE_S", 0.05)

    async def scenario(pool: Pool, _: Server) -> None:
        only = await pool.open()
        started = monotonic()
        with pytest.raises(Overloaded) as refused:
            await pool.open()
        assert 0.04 < monotonic() - started < 2
        assert (refused.value.code, refused.value.detail) == ("overload.upstream", "queue time")
        only.release()
        assert await pool.open() is only

    run(loop_factory, scenario, limit=1)


def test_a_full_queue_takes_nobody(loop_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_QUEUE", 1)

    async def scenario(pool: Pool, _: Server) -> None:
        only = await pool.open()
        waiting = pool.opening()
        await pool.settled()
        with pytest.raises(Overloaded) as refused:
            await pool.open()
        assert refused.value.detail == "queue full"
        only.release()
        assert await waiting is only

    run(loop_factory, scenario, limit=1)


def test_who_left_the_queue_takes_no_place_in_it(loop_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_QUEUE", 1)

    async def scenario(pool: Pool, _: Server) -> None:
        only = await pool.open()
        for _ in range(3):
            gone = pool.opening()
            await pool.settled()
            gone.cancel()
            await pool.settled()
        waiting = pool.opening()
        await pool.settled()
        only.release()
        assert await waiting is only

    run(loop_factory, scenario, limit=1)


def test_a_connection_is_not_given_to_one_who_left(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, _: Server) -> None:
        only = await pool.open()
        gone, waiting = pool.opening(), pool.opening()
        await pool.settled()
        gone.cancel()
        await pool.settled()
        only.release()
        assert await waiting is only

    run(loop_factory, scenario, limit=1)


def test_one_lent_in_the_moment_its_taker_leaves_is_not_lost(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        only = await pool.open()
        gone = pool.opening()
        await pool.settled()
        only.release()
        gone.cancel()
        await pool.settled()
        assert gone.cancelled()
        assert await pool.open() is only
        assert running.connections == 1

    run(loop_factory, scenario, limit=1)


def test_a_place_given_in_the_moment_its_taker_leaves_is_not_lost(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        only, holder = await pool.open(), Holder()
        gone, waiting = pool.opening(), pool.opening()
        await pool.settled()
        only.expect(holder)
        holder.when_failed = gone.cancel
        await asyncio.to_thread(soon, lambda: running.connections == 1)
        running.cut()
        assert (await waiting).transport.is_closing() is False
        assert gone.cancelled()

    run(loop_factory, scenario, limit=1)


def test_a_dial_whose_taker_left_serves_the_next(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        gone = pool.opening()
        await asyncio.sleep(0)
        gone.cancel()
        connection = await pool.open()
        await pool.settled()
        connection.release()
        assert running.connections == 1

    run(loop_factory, scenario, limit=1)


def test_a_dial_that_succeeds_in_the_moment_its_taker_leaves_is_not_lost(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        gone = pool.opening()
        pool.after_dial = gone.cancel
        await asyncio.sleep(0.05)
        assert gone.cancelled()
        pool.after_dial = lambda: None
        connection = await pool.open()
        connection.release()
        assert running.connections == 1

    run(loop_factory, scenario, limit=1)


def test_a_grant_for_another_route_or_one_that_is_closed_opens_nothing(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        (await pool.open()).release()
        closed = grant()
        closed.close("completed")
        for wrong in (grant("billing"), closed):
            for fresh in (False, True):
                with pytest.raises(Internal):
                    await pool.upstream.open(wrong, fresh=fresh)
            with pytest.raises(Internal):
                pool.upstream.idle(wrong)
        assert running.connections == 1

    run(loop_factory, scenario)


def test_closing_the_upstream_ends_every_connection(loop_factory: Factory) -> None:
    async def scenario(pool: Pool, running: Server) -> None:
        lent, idle = await pool.open(), await pool.open()
        idle.release()
        pool.upstream.close()
        await pool.settled()
        assert lent.transport.is_closing()
        assert await asyncio.to_thread(soon, lambda: running.closed == 2)

    run(loop_factory, scenario)


def test_a_dial_under_way_ends_with_the_house(loop_factory: Factory) -> None:
    async def scenario() -> None:
        with hanging() as port:
            pool = Pool(port)
            opening = pool.opening()
            await asyncio.sleep(0.05)
            for task in pool.tasks:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


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


def test_a_refused_dial(loop_factory: Factory) -> None:
    assert failure(loop_factory, closed_port()).code == "upstream.connect"


def test_a_dial_into_silence(loop_factory: Factory) -> None:
    with hanging() as port:
        started = monotonic()
        error = failure(loop_factory, port, connect_s=0.1)
        assert (error.code, error.detail) == ("upstream.timeout", "connect")
        assert monotonic() - started < 1


def test_a_handshake_into_silence(loop_factory: Factory) -> None:
    with server() as running:
        error = failure(loop_factory, running.port, connect_s=0.1, tls=upstream_context(UpstreamTls()))
        assert (error.code, error.detail) == ("upstream.timeout", "connect")


def test_a_name_that_cannot_be_dialled(loop_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        pool = Pool(1)

        async def broken(*_: Any, **__: Any) -> None:
            raise LookupError("no such codec")

        pool.upstream._loop = type(
            "Loop", (), {"create_connection": broken, "create_future": pool.loop.create_future}
        )()  # type: ignore[misc]
        with pytest.raises(Internal) as failed:
            await pool.upstream.open(grant())
        assert "LookupError" in failed.value.detail

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def test_everyone_waiting_for_a_place_hears_of_a_failed_dial(loop_factory: Factory) -> None:
    """The place is free again, so the next one dials for itself."""

    async def scenario() -> None:
        pool = Pool(closed_port(), limit=1)
        opening = [pool.opening() for _ in range(3)]
        codes = []
        for task in opening:
            with pytest.raises(UpstreamError) as failed:
                await task
            codes.append(failed.value.code)
        assert codes == ["upstream.connect"] * 3

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("pki"), "internal")


def tls_server(pki: TestAuthority, name: str, *, client_ca: Path | None = None) -> ssl.SSLContext:
    leaf = pki.issue(name, usages=SERVER, names=(name,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.certificate, leaf.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def test_tls_to_the_upstream_with_a_private_ca_and_our_own_certificate(
    loop_factory: Factory, pki: TestAuthority
) -> None:
    ours = pki.issue("proxy", usages=CLIENT)
    context = upstream_context(UpstreamTls(ca_pem=pki.path.read_text(), certificate=ours.certificate, key=ours.key))

    async def scenario(port: int) -> None:
        pool = Pool(port, tls=context, server_name="orders.internal")
        connection = await pool.open()
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        connection.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        holder = Holder()
        connection.expect(holder)
        while not holder.answers:
            await asyncio.sleep(0.01)
        await pool.close()

    with server(tls_server(pki, "orders.internal", client_ca=pki.path)) as running:
        running.answer = lambda _, connection, __: connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n") is None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(scenario(running.port))


@pytest.mark.parametrize("fault", ["foreign authority", "other name", "plain text"])
def test_an_upstream_that_is_not_who_it_should_be(
    loop_factory: Factory, pki: TestAuthority, fault: str, tmp_path: Path
) -> None:
    trusted = TestAuthority(tmp_path, "other") if fault == "foreign authority" else pki
    context = upstream_context(UpstreamTls(ca_pem=trusted.path.read_text()))
    name = "billing.internal" if fault == "other name" else "orders.internal"
    with server(tls_server(pki, "orders.internal")) as running:
        if fault == "plain text":
            running.close()
            running = Server()
            running.answer = lambda _, connection, __: False
            plain_text_speaker(running)
        assert failure(loop_factory, running.port, tls=context, server_name=name).code == "upstream.tls"
        running.close()


def plain_text_speaker(running: Server) -> None:
    """Makes the server greet in plain text whoever connects."""
    running._serve = lambda connection, _: (connection.sendall(b"220 hello\r\n"), connection.close())  # type: ignore[assignment]
