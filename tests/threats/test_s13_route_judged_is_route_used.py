"""S13: a request is judged for one route and forwarded on that one, whatever ran on the connection before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.fakes.tokens import ISSUER
from tests.fakes.upstream import Upstream as FakeUpstream
from tests.fakes.watch import WatchedHouse, served
from ztproxy.errors import Internal
from ztproxy.gate import Grant
from ztproxy.proxy.step import Spawn
from ztproxy.proxy.upstream import Upstream, UpstreamTarget
from ztproxy.types import Meter

METHODS = {"one": "GET", "two": "PUT"}
"""Each route's policy allows one method."""


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, FakeUpstream]]:
    made = {name: FakeUpstream() for name in METHODS}
    yield made
    for each in made.values():
        each.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, FakeUpstream]) -> Iterator[WatchedHouse]:
    folder = tmp_path_factory.mktemp("house")

    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        for name, method in METHODS.items():
            statement = {
                "Effect": "Allow",
                "Principal": {"Federated": ISSUER},
                "Action": "execute-api:Invoke",
                "Resource": f"execute-api:/prod/{method}/*",
            }
            policy = folder / f"{name}.yaml"
            policy.write_text(str({"Version": "2012-10-17", "Statement": [statement]}))
            configuration["routes"].append(
                {
                    **general,
                    "name": name,
                    "path": f"/{name}/**",
                    "policy": policy.name,
                    "upstream": {"url": f"http://127.0.0.1:{upstreams[name].port}"},
                }
            )

    house = WatchedHouse(folder, change=change)
    try:
        yield house.start()
    finally:
        house.close()


def test_each_request_meets_the_policy_and_the_upstream_of_its_own_route(
    house: WatchedHouse, upstreams: dict[str, FakeUpstream]
) -> None:
    order = random.Random(13)
    connection = house.connect()
    told: dict[str, tuple[str, str, int]] = {}
    for _ in range(200):
        route, method = order.choice(list(METHODS)), order.choice(list(METHODS.values()))
        answer = connection.send(house.request(f"{method} /{route}/x")).answer()
        told[answer.value("x-ztproxy-id") or ""] = (route, method, answer.status)
    connection.close()
    assert {(route, method): status for route, method, status in told.values()} == {
        (route, method): 200 if METHODS[route] == method else 403 for route in METHODS for method in METHODS.values()
    }
    for record in house.records("access.decided"):
        if record["id"] in told:
            route, method, status = told[record["id"]]
            assert (record["route"], record["method"]) == (route, method)
            assert f":{route}/prod/{method}/{route}/x" in record["resource"]
            assert (record["code"] == "allowed") is (status == 200)
    for name, upstream in upstreams.items():
        assert upstream.requests
        assert {request.line for request in upstream.requests} == {f"{METHODS[name]} /{name}/x HTTP/1.1".encode()}


@pytest.mark.parametrize("path", ["/one/../two/x", "/one/%2e%2e/two/x", "/one//two", "/one/..%2ftwo/x"])
def test_no_spelling_takes_one_route_in_judgement_and_another_in_use(
    house: WatchedHouse, upstreams: dict[str, FakeUpstream], path: str
) -> None:
    arrived = [len(upstream.requests) for upstream in upstreams.values()]
    with house.expecting("access.decided protocol.target"):
        assert house.ask(f"GET {path}").status == 400
    assert [len(upstream.requests) for upstream in upstreams.values()] == arrived


def test_an_encoded_route_name_is_that_route(house: WatchedHouse, upstreams: dict[str, FakeUpstream]) -> None:
    with house.expecting(*served()):
        assert house.ask("PUT /%74wo/x").status == 200
    assert upstreams["two"].requests[-1].line == b"PUT /two/x HTTP/1.1"


class _Named:
    """As much of a grant as the door out looks at."""

    def __init__(self, route: str) -> None:
        self.request = self
        self.route = self
        self.name = route
        self.meter = Meter()


@pytest.mark.parametrize(("route", "closed"), [("two", False), ("one", True)])
def test_the_door_out_refuses_a_grant_for_another_route_or_a_closed_one(route: str, closed: bool) -> None:
    async def opened() -> None:
        target = UpstreamTarget(route="one", host="127.0.0.1", port=9)
        grant = _Named(route)
        grant.meter.closed = closed
        upstream = Upstream(target, asyncio.get_running_loop(), cast(Spawn, None))
        with pytest.raises(Internal):
            await upstream.open(cast(Grant, grant))

    asyncio.run(opened())
