"""S16: what a route demands is judged for every request on it; no server name, host spelling or neighbour helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.proxy import POLICY
from tests.fakes.watch import NOBODY, WatchedHouse, refused, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        locked = configuration["routes"][0]
        listener = configuration["listeners"][0]
        configuration["routes"] = [
            locked,
            {**locked, "name": "locked", "host": "127.0.0.1"},
            {**locked, "name": "open", "path": "/open/**", "authenticate": {"any_of": ["corp"]}},
        ]
        tls = {name: value for name, value in listener["tls"].items() if name != "client_certificates"}
        configuration["listeners"].append({**listener, "name": "no-certificates", "tls": tls})
        configuration["policy"] = POLICY

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


def with_host(raw: bytes, host: str) -> bytes:
    return raw.replace(b"Host: localhost", f"Host: {host}".encode())


@pytest.mark.parametrize("listener", ["edge", "no-certificates"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "LocalHost.", "localhost:443", "localhost.:8443", "127.0.0.1", "127.0.0.1:443"]
)
def test_no_certificate_no_locked_route(house: WatchedHouse, host: str, name: str, listener: str) -> None:
    with house.expecting(refused("authn.certificate-missing")):
        connection = house.dial(NOBODY, name=name, listener=listener)
        answer = house.ask_on(connection, with_host(house.request("GET /orders"), host))
    assert answer.status == 401


def test_an_open_neighbour_on_the_same_connection_opens_nothing(house: WatchedHouse) -> None:
    with house.expecting(*served() * 2, *[refused("authn.certificate-missing")] * 2, forwarded=2):
        connection = house.dial(NOBODY)
        statuses = [
            connection.send(house.request(f"GET {path}")).answer().status for path in ("/open/x", "/orders") * 2
        ]
        connection.close()
    assert statuses == [200, 401, 200, 401]


@pytest.mark.parametrize("path", ["/open/../orders", "/open/%2e%2e/orders", "//orders", "/open%2f..%2forders"])
def test_no_spelling_of_the_open_path_leads_to_the_locked_one(house: WatchedHouse, path: str) -> None:
    with house.expecting(refused("protocol.target")):
        assert house.ask_on(house.dial(NOBODY), house.request(f"GET {path}")).status == 400


def test_an_unknown_host_is_nobodys_route(house: WatchedHouse) -> None:
    with house.expecting(refused("route.none")):
        answer = house.ask_on(house.connect(), with_host(house.request(), "localhost.evil.example"))
    assert answer.status == 404


def test_with_a_certificate_it_opens(house: WatchedHouse) -> None:
    with house.expecting(*served() * 2, forwarded=2):
        for host in ("LOCALHOST.:443", "127.0.0.1"):
            assert house.ask_on(house.connect(), with_host(house.request("GET /orders"), host)).status == 200
