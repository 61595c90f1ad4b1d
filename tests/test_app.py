"""The composition root: every problem of a plan at once, and every lifetime taken down in order."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.pki import SERVER
from tests.fakes.proxy import POLICY, House
from tests.fakes.upstream import Received, Upstream, respond
from tests.proxy.inside import LOOPS, InsideHouse, in_haste
from tests.proxy.rude import silent_after
from tests.proxy.wires import ends, head, soon
from ztproxy import __version__
from ztproxy.app import App, Plan, plan
from ztproxy.config import Config, load
from ztproxy.errors import AuditUnavailable, ConfigError


def more(configuration: dict[str, Any]) -> None:
    """Something of everything: an upstream with TLS, issuers of every kind, a grant, a second certificate."""
    (listener,), (route,), (issuer,) = (configuration[each] for each in ("listeners", "routes", "issuers"))
    tls = listener["tls"]
    folder = Path(tls["certificate"].removeprefix("file:")).parent
    files = {name: f"file:{folder}/{name}.pem" for name in ("staff", "ours", "copy")}
    tls["more"] = [{"names": ["admin.test"], "certificate": tls["certificate"], "key": tls["key"]}]
    configuration["issuers"] += [
        {
            **issuer,
            "name": "by-url",
            "issuer": "https://url.test",
            "jwks": "https://url.test/keys",
            "ca": files["copy"],
        },
        {"name": "found", "issuer": "http://127.0.0.1:9", "audiences": ["a"]},
    ]
    configuration["routes"].append(
        {
            **route,
            "name": "billing",
            "host": "billing.test",
            "authenticate": {"any_of": ["certificate", "by-url", "found"]},
            "upstream": {
                "url": "https://127.0.0.1:9443",
                "tls": {"ca": files["copy"], "certificate": files["ours"], "key": f"file:{folder}/ours.key"},
            },
        }
    )
    configuration["grants"] = [{"match": {"issuer": "corp", "group": "dev"}, "policies": ["grant.json"]}]


class Written(House):
    """A house with something of everything, only written down."""

    def __init__(self, folder: Path) -> None:
        identity = {**POLICY, "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}]}
        (folder / "grant.json").write_text(json.dumps(identity))
        super().__init__(folder, change=more)
        ours = self.staff.issue("ours", usages=SERVER)
        (folder / "copy.pem").write_bytes(self.staff.path.read_bytes())
        (folder / "ours.pem").write_bytes(ours.certificate.read_bytes())
        (folder / "ours.key").write_bytes(ours.key.read_bytes())


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    house = Written(tmp_path)
    yield house
    house.close()


def test_a_plan_holds_everything_a_configuration_means(written: Written) -> None:
    config = load(written.file)
    planned = plan(config)
    assert planned.config is config
    assert [route.name for route in planned.routes] == ["orders", "billing"]
    orders, billing = planned.upstreams
    assert (orders.route, orders.host, orders.port, orders.tls) == ("orders", "127.0.0.1", written.upstream.port, None)
    assert (billing.route, billing.port, billing.server_name, billing.max_connections) == ("billing", 9443, None, 100)
    assert billing.tls is not None
    assert [issuer.name for issuer, _ in planned.issuers] == ["corp", "by-url", "found"]
    ((listener, binding, _),) = planned.listeners
    assert (listener.name, binding.host, binding.proxy_from) == ("edge", "127.0.0.1", None)
    (key,) = planned.access_keys
    assert (key.user, key.arn) == ("ci", "arn:aws:iam::111122223333:user/ci")
    assert set(planned.policies.resource) == {"orders", "billing"}
    assert len(planned.policies.identity) == 1
    assert "test-only-secret" not in repr(planned)


def problems(config: Config) -> list[str]:
    """What planning finds, each as `<file>:<place>: <message>`, once it is seen to have line and column."""
    with pytest.raises(ConfigError) as refused:
        plan(config)
    found = []
    for problem in refused.value.problems:
        file = Path(problem.file)
        text = file.read_text().splitlines() if file.exists() else [""]
        assert 1 <= problem.line <= len(text)
        assert 1 <= problem.column <= len(text[problem.line - 1]) + 1
        found.append(f"{file.name}:{problem.message}")
    return found


def test_every_problem_is_told_at_once_and_where(written: Written) -> None:
    """What was good when it was loaded and is not when it is used."""
    config = load(written.file)
    (written.folder / "policy.json").write_text('{"Version": "2012-10-17",\n "Statement": {"Efect": "Allow"}}')
    (written.folder / "grant.json").unlink()
    written.server.certificate.write_text("nothing of worth")
    (written.folder / "copy.pem").unlink()
    (written.folder / "secret").unlink()
    places = [re.match(r"([a-z.]+:(?:[a-z_]+\.\d(?:\.[a-z_]+)*)?)", each) for each in problems(config)]
    assert {place and place[1] for place in places} == {
        "proxy.yaml:listeners.0.tls",
        "proxy.yaml:routes.1.upstream",
        "proxy.yaml:issuers.1",
        "proxy.yaml:access_keys.0.secret",
        "policy.json:",
        "grant.json:",
    }


def test_a_problem_names_its_line(written: Written) -> None:
    config = load(written.file)
    (written.folder / "secret").unlink()
    with pytest.raises(ConfigError) as refused:
        plan(config)
    (problem,) = refused.value.problems
    line = written.file.read_text().splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith(f'"file:{written.folder}/secret"')
    assert str(refused.value).startswith(f"{written.file}:{problem.line}:{problem.column}: access_keys.0.secret: ")


class Running(InsideHouse):
    """A house in a thread that may end in its own ways."""

    def begin_to_stop(self) -> None:
        self.loop.call_soon_threadsafe(self.app.stop)


@pytest.fixture(params=LOOPS)
def running(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    in_haste(monkeypatch)
    house = Running(tmp_path, LOOPS[request.param])
    yield house
    house.close()


def lifecycle(house: House) -> list[str]:
    return [record["event"] for record in house.records()]


def test_it_tells_when_it_begins_and_ends(running: Running) -> None:
    running.start()
    assert set(running.ports) == {each["name"] for each in running.configuration["listeners"]}
    assert running.get().status == 200
    running.stop()
    events = lifecycle(running)
    assert (events[0], events[-1], len(events)) == ("process.started", "process.stopped", 4)
    assert (running.records()[0]["version"], running.records()[0]["pid"] > 0) == (__version__, True)
    with pytest.raises(ConnectionError):
        running.raw()


def test_a_drain_ends_what_rests_and_waits_for_what_runs(running: Running) -> None:
    running.start()
    resting, busy = running.connect(), running.connect()
    assert resting.send(head("GET", "/")).answer().status == 200

    def slow(_: Upstream, connection: socket.socket, __: Received) -> bool:
        time.sleep(0.4)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    running.upstream.answer = slow
    busy.send(head("GET", "/busy"))
    assert soon(lambda: len(running.upstream.requests) == 2)
    running.begin_to_stop()
    assert ends(resting, seconds=0.3)
    answer = busy.answer()
    assert (answer.body, answer.value("connection")) == (b"ok", "close")
    assert ends(busy)
    resting.close()
    busy.close()
    running.stop()
    assert [record["code"] for record in running.records("access.ended")] == ["completed"] * 2
    assert lifecycle(running)[-1] == "process.stopped"


def test_a_client_that_does_not_react_does_not_hold_up_the_end(running: Running) -> None:
    """Pooling clients look at a resting connection only when they need it again."""
    running.start()
    resting = running.connect()
    assert resting.send(head("GET", "/")).answer().status == 200
    started = time.monotonic()
    running.stop()
    assert time.monotonic() - started < 10


def test_what_outlasts_the_drain_is_cut_and_its_end_recorded_before_the_last_record(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ztproxy.app._DRAIN_S", 0.2)
    running.start()
    running.upstream.answer = silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
    busy = running.connect().send(head("GET", "/endless"))
    assert soon(lambda: running.upstream.requests)
    started = time.monotonic()
    running.stop()
    assert time.monotonic() - started < 3
    with pytest.raises(EOFError):
        busy.answer()
    assert len(running.records("access.ended")) == 1
    assert lifecycle(running)[-1] == "process.stopped"


def test_an_issuer_whose_keys_cannot_be_had_yet_does_not_keep_it_from_serving(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.tokens.path.write_text("{}")
    with caplog.at_level(logging.WARNING, "ztproxy"):
        running.start()
    assert "issuer `corp`: its keys cannot be had yet" in caplog.text
    refused = running.ask()
    assert (refused.status, refused.json["code"]) == (503, "authn.keys-unavailable")
    assert running.get().status == 200


def test_what_breaks_one_task_is_told_and_ends_only_itself(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.start()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("while it was accepted")

    with monkeypatch.context() as patched:
        patched.setattr("ztproxy.gate.Gate.failed_connection", broken)
        with running.raw() as plain:
            plain.sendall(b"nonsense\r\n\r\n")
            assert soon(lambda: "while it was accepted" in caplog.text)
    assert running.get().status == 200


def run_once(planned: Plan) -> None:
    asyncio.run(App(planned).run(lambda app: app.stop()))


def test_a_spool_that_someone_else_writes_is_refused(running: Running) -> None:
    running.start()
    with pytest.raises(AuditUnavailable):
        run_once(plan(load(running.file)))
    assert running.get().status == 200


def test_an_address_that_is_taken_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def listen_there(configuration: dict[str, Any]) -> None:
            (first,) = configuration["listeners"]
            configuration["listeners"].append({**first, "name": "second", "bind": f"127.0.0.1:{port}"})

        house = House(tmp_path, change=listen_there)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            run_once(plan(load(house.file)))
    run_once(plan(load(house.file)))
    assert lifecycle(house) == ["process.started", "process.stopped"]
    house.close()


def test_it_may_be_stopped_while_it_starts(written: Written) -> None:
    planned = plan(load(written.file))
    run_once(planned)
    assert lifecycle(written) == ["process.started", "process.stopped"]


def test_every_upstream_has_its_own_connections(running: Running) -> None:
    """One route that has used up its places takes none of another's (S13)."""
    running.start()
    running.upstream.answer = silent_after(b"")
    running.connect().send(head("GET", "/", host="one.test"))
    assert soon(lambda: running.upstream.requests)
    running.upstream.answer = respond()
    assert running.get().status == 200
