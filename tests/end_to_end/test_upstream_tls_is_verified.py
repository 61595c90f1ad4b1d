"""An upstream that cannot prove its name over TLS gets no byte of the request; one that asks for ours is shown it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.pki import CLIENT, SERVER, Leaf, TestAuthority
from tests.fakes.upstream import Received, Upstream
from tests.fakes.watch import WatchedHouse, served

NAME = "orders.internal"


class Plain(Upstream):
    """A server without TLS: it answers a handshake as it answers every other nonsense."""

    def _read(self, connection: socket.socket, buffer: bytes, number: int) -> tuple[Received | None, bytes]:
        self.hello = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return None, b""


class World:
    """Upstreams behind good and bad certificates, and what the proxy is told of each."""

    def __init__(self, folder: Any, stack: ExitStack) -> None:
        self.internal = TestAuthority(folder, "internal")
        self.foreign = TestAuthority(folder, "foreign")
        self.us = self.internal.issue("ztproxy", usages=CLIENT)
        self.stack = stack
        self.upstreams: dict[str, Upstream] = {}
        self.routes: dict[str, dict[str, Any]] = {}

    def add(
        self, name: str, leaf: Leaf | None, *, ask_us: bool = False, url_host: str = "127.0.0.1", **tls: str
    ) -> None:
        """An upstream that shows this certificate; `tls` overrides what the proxy is told."""
        context = None
        if leaf is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(leaf.certificate, leaf.key)
            if ask_us:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.internal.path)
        upstream = self.upstreams[name] = Plain() if leaf is None else Upstream(tls=context)
        self.stack.callback(upstream.close)
        told = {"ca": f"file:{self.internal.path}", "server_name": NAME, **tls}
        self.routes[name] = {
            "url": f"https://{url_host}:{upstream.port}",
            "tls": {key: value for key, value in told.items() if value},
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("upstreams")
    with ExitStack() as stack:
        world = World(folder, stack)
        good = world.internal.issue(NAME, usages=SERVER, names=(NAME,))
        ours = {"certificate": f"file:{world.us.certificate}", "key": f"file:{world.us.key}"}
        by_address = world.internal.issue("address", usages=SERVER, names=("127.0.0.1",))
        world.add("private-ca", good)
        world.add("by-address", by_address, server_name="")
        world.add("mutual", good, ask_us=True, **ours)
        world.add("mutual-without-ours", good, ask_us=True)
        world.add("wrong-name", world.internal.issue("x", usages=SERVER, names=("billing.internal",)))
        world.add("name-in-subject-only", world.internal.issue(NAME, usages=SERVER))
        world.add("unknown-authority", world.foreign.issue(NAME, usages=SERVER, names=(NAME,)))
        world.add("not-of-the-system", good, ca="")
        world.add(
            "expired",
            world.internal.issue(
                NAME, usages=SERVER, names=(NAME,), starts=timedelta(days=-2), ends=timedelta(seconds=-5)
            ),
        )
        world.add("for-clients", world.internal.issue(NAME, usages=CLIENT, names=(NAME,)))
        world.add("plain", None)
        yield world


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        for name, upstream in world.routes.items():
            configuration["routes"].append({**general, "name": name, "path": f"/{name}/**", "upstream": upstream})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


@pytest.mark.parametrize("kind", ["private-ca", "by-address", "mutual"])
def test_a_proven_upstream_is_used(house: WatchedHouse, world: World, kind: str) -> None:
    with house.expecting(*served() * 2):
        connection = house.connect()
        for _ in range(2):
            answer = connection.send(house.request(f"POST /{kind}/x", body=b"order")).answer()
            assert (answer.status, answer.json["body"]) == (200, "order")
        connection.close()
    assert world.upstreams[kind].connections == 1


@pytest.mark.parametrize(
    "kind",
    ["wrong-name", "name-in-subject-only", "unknown-authority", "not-of-the-system", "expired", "for-clients", "plain"],
)
def test_an_unproven_upstream_gets_nothing(house: WatchedHouse, world: World, kind: str) -> None:
    with house.expecting(*served("upstream.tls")):
        answer = house.ask(f"POST /{kind}/x", body=b"order")
    assert (answer.status, answer.json["code"]) == (502, "upstream.tls")
    assert answer.json["detail"] == "the upstream's TLS identity was refused"
    assert world.upstreams[kind].requests == []


def test_an_upstream_that_asks_for_our_certificate_is_not_served_without(house: WatchedHouse, world: World) -> None:
    """In TLS 1.3 the refusal comes behind the handshake, as the end of the connection."""
    with house.expecting(*served("upstream.closed")):
        answer = house.ask("GET /mutual-without-ours/x")
    assert answer.status == 502
    assert world.upstreams["mutual-without-ours"].requests == []
