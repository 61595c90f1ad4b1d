"""The pool: who gets which connection, who waits for how long, what a failed dial is called, and nothing leaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from time import monotonic

import pytest

from tests.authn.tokens import stepped
from tests.fakes.pki import CLIENT, TestAuthority
from tests.fakes.upstream import Received
from tests.fakes.upstream import Upstream as Server
from tests.proxy.inside import closed_port
from tests.proxy.pools import Broken, Factory, Holder, Pool, failure, grant, hanging, pooled, server, tls_server
from tests.proxy.rude import RudeServer
from tests.proxy.wires import soon
from ztproxy.errors import Internal, Overloaded, UpstreamError
from ztproxy.proxy.step import step
from ztproxy.proxy.tls import UpstreamTls, upstream_context
from ztproxy.proxy.upstream import UpstreamConnection


@pooled()
async def test_the_connection_used_last_is_given_first(pool: Pool) -> None:
    first, second, third = [await pool.open() for _ in range(3)]
    assert len({first, second, third}) == 3
    for each in (second, third, first):
        each.release()
    assert [await pool.open() for _ in range(3)] == [first, third, second]
    assert await pool.server_met(3)


@pooled()
async def test_an_idle_connection_is_given_without_waiting(pool: Pool) -> None:
    only = await pool.open()
    assert pool.upstream.idle(grant()) is None
    only.release()
    assert stepped(pool.upstream.open(grant())) is only
    only.release()
    assert pool.upstream.idle(grant()) is only


@pooled()
async def test_a_fresh_connection_is_never_one_that_was_used(pool: Pool) -> None:
    used = await pool.open()
    assert used.reused is False
    used.release()
    fresh = await pool.upstream.open(grant(), fresh=True)
    assert (fresh is used, fresh.reused, used.reused) == (False, False, True)


@pooled()
async def test_a_connection_not_to_be_kept_is_closed_not_pooled(pool: Pool) -> None:
    first = await pool.open()
    first.keep = False
    first.release()
    second = await pool.open()
    assert second is not first
    second.abort()
    second.release()
    assert await pool.open() not in (first, second)
    assert await pool.server_met(3)


@pooled()
async def test_one_that_died_or_is_about_to_close_is_not_given(pool: Pool) -> None:
    first = await pool.open()
    first.release()
    await pool.server_dies()
    await pool.settled()
    assert pool.upstream.idle(grant()) is None
    second = await pool.open()
    assert second is not first
    second.release()
    second.transport.close()
    assert pool.upstream.idle(grant()) is None


@pooled()
async def test_a_byte_while_idle_ends_the_connection(pool: Pool) -> None:
    """Bytes nobody asked for would be taken for the next request's answer."""
    first = await pool.open()
    first.release()
    await asyncio.to_thread(soon, lambda: len(pool.server._sockets) == 1)
    next(iter(pool.server._sockets)).sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await pool.settled()
    assert pool.upstream.idle(grant()) is None


@pooled(limit=1)
async def test_at_the_limit_requests_are_served_in_the_order_they_came(pool: Pool) -> None:
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
    assert await pool.server_met(1)


@pooled(limit=2)
async def test_a_connection_being_dialled_counts(pool: Pool) -> None:
    opening = [pool.opening() for _ in range(4)]
    await asyncio.sleep(0.05)
    done = [task for task in opening if task.done()]
    assert len(done) == 2
    for task in done:
        task.result().release()
    for task in opening:
        await task
    assert await pool.server_met(2)


@pooled(limit=1)
async def test_one_that_waits_gets_the_place_of_one_that_broke(pool: Pool) -> None:
    only = await pool.open()
    waiting = pool.opening()
    await pool.settled()
    only.abort()
    assert await waiting is not only
    assert await pool.server_met(2)


@pooled(limit=1)
async def test_a_place_given_to_one_that_waits_is_not_taken_by_another(pool: Pool) -> None:
    """The exchange whose connection broke tries again in the very moment its place went to who waited longest."""
    only, holder = await pool.open(), Holder()
    waiting = pool.opening()
    await pool.settled()
    again: list[asyncio.Task[UpstreamConnection]] = []
    only.expect(holder)
    holder.when_failed = lambda: again.append(pool.opening())
    await pool.server_dies()
    first = await waiting
    await asyncio.sleep(0.05)
    assert [task.done() for task in again] == [False]
    first.release()
    assert await again[0] is first
    assert [error.code for error in holder.failures] == ["upstream.closed"]
    assert await pool.server_met(2)


@pooled(limit=1)
async def test_stepped_by_hand_in_that_moment_it_waits_too(pool: Pool) -> None:
    only, holder = await pool.open(), Holder()
    waiting = pool.opening()
    await pool.settled()
    only.expect(holder)

    async def again() -> None:
        (await pool.upstream.open(grant(), fresh=True)).release()

    holder.when_failed = lambda: step(again(), pool.spawn)
    await pool.server_dies()
    first = await waiting
    await asyncio.sleep(0.05)
    assert await pool.server_met(2)
    first.release()
    await asyncio.sleep(0.05)


@pooled(limit=1, _QUEUE_S=0.05)
async def test_who_waits_too_long_is_told(pool: Pool) -> None:
    only = await pool.open()
    started = monotonic()
    with pytest.raises(Overloaded) as refused:
        await pool.open()
    assert 0.04 < monotonic() - started < 2
    assert (refused.value.code, refused.value.detail) == ("overload.upstream", "queue time")
    only.release()
    assert await pool.open() is only


@pooled(limit=1, _LONGEST_QUEUE=1)
async def test_a_full_queue_takes_nobody(pool: Pool) -> None:
    only = await pool.open()
    waiting = pool.opening()
    await pool.settled()
    with pytest.raises(Overloaded) as refused:
        await pool.open()
    assert refused.value.detail == "queue full"
    only.release()
    assert await waiting is only


@pooled(limit=1, _LONGEST_QUEUE=1)
async def test_who_left_the_queue_takes_no_place_in_it(pool: Pool) -> None:
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


@pooled(limit=1)
async def test_a_connection_is_not_given_to_one_who_left(pool: Pool) -> None:
    only = await pool.open()
    gone, waiting = pool.opening(), pool.opening()
    await pool.settled()
    gone.cancel()
    await pool.settled()
    only.release()
    assert await waiting is only


@pooled(limit=1)
async def test_one_lent_in_the_moment_its_taker_leaves_is_not_lost(pool: Pool) -> None:
    only = await pool.open()
    gone = pool.opening()
    await pool.settled()
    only.release()
    gone.cancel()
    await pool.settled()
    assert gone.cancelled()
    assert await pool.open() is only
    assert await pool.server_met(1)


@pooled(limit=1)
async def test_a_place_given_in_the_moment_its_taker_leaves_is_not_lost(pool: Pool) -> None:
    only, holder = await pool.open(), Holder()
    gone, waiting = pool.opening(), pool.opening()
    await pool.settled()
    only.expect(holder)
    holder.when_failed = gone.cancel
    await pool.server_dies()
    assert (await waiting).transport.is_closing() is False
    assert gone.cancelled()


@pooled(limit=1)
async def test_a_dial_whose_taker_left_serves_the_next(pool: Pool) -> None:
    gone = pool.opening()
    await asyncio.sleep(0)
    gone.cancel()
    connection = await pool.open()
    await pool.settled()
    connection.release()
    assert await pool.server_met(1)


@pooled(limit=1)
async def test_a_dial_that_succeeds_in_the_moment_its_taker_leaves_is_not_lost(pool: Pool) -> None:
    gone = pool.opening()
    pool.after_dial = gone.cancel
    await asyncio.sleep(0.05)
    assert gone.cancelled()
    pool.after_dial = lambda: None
    connection = await pool.open()
    connection.release()
    assert await pool.server_met(1)


@pooled()
async def test_a_grant_for_another_route_or_one_that_is_closed_opens_nothing(pool: Pool) -> None:
    (await pool.open()).release()
    closed = grant()
    closed.close("completed")
    for wrong in (grant("billing"), closed):
        for fresh in (False, True):
            with pytest.raises(Internal):
                await pool.upstream.open(wrong, fresh=fresh)
        with pytest.raises(Internal):
            pool.upstream.idle(wrong)
    assert await pool.server_met(1)


@pooled()
async def test_closing_the_upstream_ends_every_connection(pool: Pool) -> None:
    lent, idle = await pool.open(), await pool.open()
    idle.release()
    pool.upstream.close()
    await pool.settled()
    assert lent.transport.is_closing()
    assert await asyncio.to_thread(soon, lambda: pool.server.closed == 2)


@pooled()
async def test_a_dial_under_way_ends_with_the_house(pool: Pool) -> None:
    (await pool.open()).release()
    with hanging() as port:
        other = Pool(port)
        opening = other.opening()
        await asyncio.sleep(0.05)
        for task in other.tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


def test_a_refused_dial(loop_factory: Factory) -> None:
    assert failure(loop_factory, closed_port()).code == "upstream.connect"


def test_a_dial_or_a_handshake_into_silence(loop_factory: Factory) -> None:
    with hanging() as port:
        started = monotonic()
        error = failure(loop_factory, port, connect_s=0.1)
        assert (error.code, error.detail) == ("upstream.timeout", "connect")
        assert monotonic() - started < 1
    with server() as running:
        error = failure(loop_factory, running.port, connect_s=0.1, tls=upstream_context(UpstreamTls()))
        assert (error.code, error.detail) == ("upstream.timeout", "connect")


@pooled()
async def test_a_bug_while_dialling_is_ours(pool: Pool) -> None:
    broken = Pool(pool.server.port, loop=Broken())
    with pytest.raises(Internal) as failed:
        await broken.open()
    assert "LookupError" in failed.value.detail


@pooled()
async def test_everyone_waiting_for_a_place_hears_of_a_failed_dial(pool: Pool) -> None:
    """The place is free again, so the next one dials for itself."""
    pool.upstream = Pool(closed_port(), limit=1).upstream
    for task in [pool.opening() for _ in range(3)]:
        with pytest.raises(UpstreamError) as failed:
            await task
        assert failed.value.code == "upstream.connect"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("pki"), "internal")


@pytest.mark.parametrize("orderly", [True, False])
def test_tls_with_a_private_ca_and_our_own_certificate(
    loop_factory: Factory, pki: TestAuthority, orderly: bool
) -> None:
    """And a body until close is whole only where TLS itself says that it ends (RFC 9112 §9.8)."""
    ours = pki.issue("proxy", usages=CLIENT)
    context = upstream_context(UpstreamTls(ca_pem=pki.path.read_text(), certificate=ours.certificate, key=ours.key))

    def until_close(_: Server, connection: socket.socket, __: Received) -> bool:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if orderly:
            connection.unwrap().close()
        return False

    async def scenario(port: int) -> Holder:
        pool = Pool(port, tls=context, server_name="orders.internal")
        connection, holder = await pool.open(), Holder()
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        connection.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        connection.expect(holder)
        holder.when_finished = connection.release
        assert await asyncio.to_thread(soon, lambda: holder.finished or holder.failures)
        await pool.close()
        return holder

    with server(tls_server(pki, "orders.internal", client_ca=pki.path)) as running:
        running.answer = until_close
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            holder = runner.run(scenario(running.port))
    assert (holder.answers, holder.finished) == ([200], orderly)
    assert [error.code for error in holder.failures] == ([] if orderly else ["upstream.truncated"])


@pytest.mark.parametrize("fault", ["foreign authority", "other name"])
def test_an_upstream_that_is_not_who_it_should_be(
    loop_factory: Factory, pki: TestAuthority, fault: str, tmp_path: Path
) -> None:
    trusted = TestAuthority(tmp_path, "other") if fault == "foreign authority" else pki
    context = upstream_context(UpstreamTls(ca_pem=trusted.path.read_text()))
    name = "billing.internal" if fault == "other name" else "orders.internal"
    with server(tls_server(pki, "orders.internal")) as running:
        assert failure(loop_factory, running.port, tls=context, server_name=name).code == "upstream.tls"


def test_an_upstream_that_speaks_plain_text_where_tls_should_be(loop_factory: Factory) -> None:
    rude = RudeServer()
    rude.speak = lambda _, connection, __: connection.sendall(b"220 hello\r\n")
    assert failure(loop_factory, rude.port, tls=upstream_context(UpstreamTls())).code == "upstream.tls"
    rude.close()
