"""The whole proxy in a thread of this process, on either event loop, with a route for every kind of limit."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.fakes.pki import Leaf
from tests.fakes.proxy import Answer, Connection, House
from tests.fakes.upstream import echo
from tests.proxy.rude import RudeServer
from tests.proxy.wires import head
from ztproxy.app import App, plan
from ztproxy.config import load
from ztproxy.proxy import http, sessions

VPCE = "vpce-0123456789abcdef0"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def _allow(condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": {**statement, **({"Condition": condition} if condition else {})}}


def _route(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "host": f"{name}.test",
        "authenticate": "none",
        "policy": "anyone.json",
        "upstream": {"url": f"http://127.0.0.1:{port}"},
        **more,
    }


def closed_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def in_haste(patched: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at more often, and leave is taken sooner."""
    patched.setattr(sessions, "SWEEP_S", 0.05)
    patched.setattr(http, "_LINGER_S", 0.3, raising=False)


class InsideHouse(House):
    """A `House` whose proxy runs in a thread; stays up for many tests."""

    def __init__(self, folder: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop_factory = loop_factory
        self.connections: list[Connection] = []
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.rude = RudeServer()
        self._threshold = gc.get_threshold()
        (folder / "anyone.json").write_text(json.dumps(_allow()))
        (folder / "agent.json").write_text(json.dumps(_allow({"StringLike": {"aws:UserAgent": "good/*"}})))
        (folder / "vpc.json").write_text(json.dumps(_allow({"StringEquals": {"aws:SourceVpc": "vpc-0a1b2c3d"}})))
        super().__init__(folder, change=self._more)

    def _more(self, configuration: dict[str, Any]) -> None:
        (edge,) = configuration["listeners"]
        port = self.upstream.port
        required = {"mode": "required", "trusted": ["127.0.0.1/32"]}
        tls = {**edge["tls"], "client_certificates": {**edge["tls"]["client_certificates"], "mode": "required"}}
        configuration["listeners"] += [
            {**edge, "name": "hasty", "timeouts": {"pre_auth_s": 0.5, "idle_s": 0.5}},
            {**edge, "name": "behind", "proxy_protocol": required},
            {**edge, "name": "behind-hasty", "proxy_protocol": required, "timeouts": {"pre_auth_s": 0.5}},
            {**edge, "name": "astray", "proxy_protocol": {**required, "trusted": ["10.0.0.0/8"]}},
            {**edge, "name": "strict", "tls": tls},
        ]
        configuration["network"] = {"vpc_endpoints": {VPCE: {"vpc": "vpc-0a1b2c3d", "account": "444455556666"}}}
        configuration["routes"] += [
            _route("open", port, timeouts={"response_s": 20}, limits={"body_bytes": 2**30}),
            _route("rude", self.rude.port, timeouts={"response_s": 20}, limits={"body_bytes": 2**30}),
            _route("careful", self.rude.port, audit="required", limits={"body_bytes": 2**30}),
            _route("signed", self.rude.port, authenticate={"any_of": ["sigv4"]}),
            _route("agent", port, policy="agent.json"),
            _route("vpc", port, policy="vpc.json"),
            _route("small", port, limits={"body_bytes": 1000}),
            _route("quick", port, timeouts={"response_s": 0.3}),
            _route("brief", port, timeouts={"response_s": 20, "total_s": 0.4}),
            _route("sealed", port, audit="required"),
            _route("dead", closed_port()),
            _route("one", port, upstream={"url": f"http://127.0.0.1:{port}", "pool": {"max_connections": 1}}),
        ]

    def start(self) -> InsideHouse:
        """Starts the proxy and waits until it listens."""
        ready = threading.Event()
        app = App(plan(load(self.file)))

        def listening(started: App) -> None:
            self.ports = {name: port for name, _, port in started.addresses}
            self.loop = asyncio.get_running_loop()
            ready.set()

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                    runner.run(app.run(listening))
            except BaseException as failure:
                self._failure = failure
            finally:
                ready.set()

        self.app = app
        self._thread = threading.Thread(target=run, name="proxy", daemon=True)
        self._thread.start()
        assert ready.wait(20)
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> int:
        """Drains and ends the proxy; raises what it ended with."""
        thread, self._thread = self._thread, None
        assert thread is not None
        with suppress(RuntimeError):  # its loop is closed: it has ended by itself
            self.loop.call_soon_threadsafe(self.app.stop)
        thread.join(40)
        gc.unfreeze()  # what the proxy froze for its own life would outlive it here
        gc.set_threshold(*self._threshold)
        assert not thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return 0

    def connect(
        self, leaf: Leaf | None = None, *, name: str = "localhost", listener: str = "edge", preamble: bytes = b""
    ) -> Connection:
        """As ever, but a connection that ends without TLS saying so is an error; closed with the test."""
        return self._connected(self.context(leaf or self.bob), name, listener, preamble)

    def anonymous(self) -> Connection:
        """The same, without a client certificate."""
        return self._connected(self.context(None), "localhost", "edge", b"")

    def _connected(self, context: ssl.SSLContext, name: str, listener: str, preamble: bytes) -> Connection:
        plain = self.raw(listener)
        plain.sendall(preamble)
        connection = Connection(context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False))
        self.connections.append(connection)
        return connection

    def reset(self) -> None:
        """Between two tests: nobody connected, an honest upstream, nothing received."""
        while self.connections:
            self.connections.pop().close()
        self.upstream.answer = echo
        self.upstream.requests.clear()
        self.rude.speak = RudeServer.listen
        self.rude.drop()

    def close(self) -> None:
        """Ends everything that still runs."""
        self.reset()
        if self._thread is not None:
            self.stop()
        self.rude.close()
        super().close()

    def get(self, path: str = "/", *fields: str, host: str = "open.test") -> Answer:
        """One GET on a connection of its own."""
        connection = self.connect()
        return connection.send(head("GET", path, *fields, host=host)).answer()

    def of(self, answer: Answer) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What was recorded of an answered request: the decision, and the end where a grant was given."""
        return self.recorded(answer.value("x-ztproxy-id") or "")

    def end(self, answer: Answer) -> dict[str, Any]:
        """How the grant of an answered request ended."""
        end = self.of(answer)[1]
        assert end is not None
        return end

    def recorded(self, attempt: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The one decision of an attempt, and its one end if it has one."""
        until = time.monotonic() + 5
        while True:
            found = [record for record in self.records() if record.get("id") == attempt]
            decided = [record for record in found if record["event"] == "access.decided"]
            ended = [record for record in found if record["event"] == "access.ended"]
            complete = decided and (ended or decided[0]["code"] != "allowed")
            if complete or time.monotonic() > until:
                break
            time.sleep(0.01)
        assert len(decided) == 1, found
        assert len(ended) == (decided[0]["code"] == "allowed"), found
        return decided[0], ended[0] if ended else None

    def last_end(self, path: str) -> dict[str, Any]:
        """The end of the one granted request to this path, whose client saw no answer."""
        until = time.monotonic() + 5
        decided: list[dict[str, Any]] = []
        while not decided and time.monotonic() < until:
            decided = [record for record in self.records("access.decided") if record["path"] == path]
            time.sleep(0.01)
        (one,) = decided
        ended = self.recorded(one["id"])[1]
        assert ended is not None
        return ended
