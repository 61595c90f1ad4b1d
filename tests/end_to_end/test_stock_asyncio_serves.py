"""Without uvloop the proxy says so once and serves all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.watch import NOBODY, WatchedHouse, failed, refused, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    folder = tmp_path_factory.mktemp("without")
    (folder / "uvloop.py").write_text("raise ImportError('not here')\n")
    house = WatchedHouse(tmp_path_factory.mktemp("house"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        house.start()
    try:
        yield house
    finally:
        house.close()


def test_it_warns(house: WatchedHouse) -> None:
    assert (house.folder / "stderr.log").read_text().count("warning: uvloop is not installed") == 1


def test_requests_are_served(house: WatchedHouse) -> None:
    body = b"x" * 1_000_000
    with house.expecting(*served() * 3, forwarded=3):
        connection = house.connect()
        assert connection.send(house.request()).answer().status == 200
        assert connection.send(house.request("POST /orders", body=body)).answer().status == 200
        assert house.upstream.requests[-1].body == body
        assert connection.send(house.request("HEAD /orders")).answer(head_only=True).status == 200
        connection.close()


def test_refusals_are_refusals(house: WatchedHouse) -> None:
    with house.expecting(
        refused("authn.token-signature"),
        refused("authz.denied-implicit"),
        refused("protocol.target"),
        refused("authn.certificate-missing"),
        failed("protocol.tls"),
    ):
        assert house.ask(token=house.tokens.token(forged=True)).status == 401
        assert house.ask("DELETE /orders").status == 403
        assert house.ask("GET /a/../b").status == 400
        assert house.ask_on(house.dial(NOBODY), house.request()).status == 401
        with house.raw() as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)


def test_it_stops_as_it_should(house: WatchedHouse) -> None:
    assert house.stop() == 0
    assert house.records()[-1]["event"] == "process.stopped"
    assert "Traceback" not in (house.folder / "stderr.log").read_text()
