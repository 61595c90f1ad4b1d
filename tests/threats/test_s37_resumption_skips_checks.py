"""S37: a resumed TLS session validates no certificate path, so the certificate is judged again, at every request."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from tests.fakes.pki import Leaf
from tests.fakes.watch import HeardConnection, WatchedHouse, refused, served

SPIFFE = ("spiffe://test.example/bob",)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        edge = configuration["listeners"][0]
        configuration["listeners"].append({**edge, "name": "second"})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


class Client:
    """One client's TLS, which may go on where it stopped."""

    def __init__(self, house: WatchedHouse, leaf: Leaf | None, version: ssl.TLSVersion) -> None:
        self._house = house
        self._context = house.context(leaf)
        self._context.minimum_version = self._context.maximum_version = version
        self.session: ssl.SSLSession | None = None
        self.resumed: bool | None = None
        """Whether the latest connection went on where an earlier one stopped."""

    def connect(self, listener: str = "edge") -> HeardConnection:
        plain = self._house.raw(listener)
        wrapped = self._context.wrap_socket(plain, server_hostname="localhost", session=self.session)
        return HeardConnection(wrapped, self._house.heard)

    def ask(self, connection: HeardConnection) -> int:
        status = connection.send(self._house.request()).answer().status
        self.session = connection.socket.session
        self.resumed = connection.socket.session_reused
        return status


def wait_for_the_end_of(leaf: Leaf) -> None:
    ends = x509.load_pem_x509_certificates(leaf.certificate.read_bytes())[0].not_valid_after_utc
    time.sleep(max(0.0, ends.timestamp() - time.time()) + 0.1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_an_expired_certificate_does_not_come_back_with_a_ticket(house: WatchedHouse, version: ssl.TLSVersion) -> None:
    leaf = house.staff.issue("bob", uris=SPIFFE, ends=timedelta(seconds=2.5))
    client = Client(house, leaf, version)
    with house.expecting(*served() * 2, *[refused("authn.certificate-expired")] * 2, forwarded=2):
        first = client.connect()
        assert client.ask(first) == 200
        resumed = client.connect()
        assert client.ask(resumed) == 200
        assert resumed.socket.session_reused
        wait_for_the_end_of(leaf)
        late = client.connect()
        assert late.socket.session_reused  # the ticket is still good, and that opens nothing
        assert client.ask(late) == 401
        assert client.ask(first) == 401  # nor does a connection as old as the certificate's better days
        for connection in (first, resumed, late):
            connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_resumed_session_is_still_the_caller_it_was(house: WatchedHouse, version: ssl.TLSVersion) -> None:
    client = Client(house, house.bob, version)
    with house.expecting(*served() * 2, forwarded=2):
        for _ in range(2):
            connection = client.connect()
            assert client.ask(connection) == 200
            connection.close()
        assert client.resumed
    for request in house.upstream.requests[-3:-1]:
        assert request.values(b"x-ztproxy-method") == [b"jwt+certificate"]


def test_a_session_without_a_certificate_never_gets_one(house: WatchedHouse) -> None:
    client = Client(house, None, ssl.TLSVersion.TLSv1_3)
    with house.expecting(*[refused("authn.certificate-missing")] * 2):
        for _ in range(2):
            connection = client.connect()
            assert client.ask(connection) == 401
            connection.close()
        assert client.resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_ticket_does_not_cross_listeners(house: WatchedHouse, version: ssl.TLSVersion) -> None:
    client = Client(house, house.bob, version)
    with house.expecting(*served() * 2, forwarded=2):
        for listener in ("edge", "second"):
            connection = client.connect(listener)
            assert client.ask(connection) == 200
            connection.close()
        assert not client.resumed


def test_a_ticket_does_not_outlive_the_process(house: WatchedHouse) -> None:
    client = Client(house, house.bob, ssl.TLSVersion.TLSv1_3)
    connection = client.connect()
    assert client.ask(connection) == 200
    connection.close()
    assert house.stop() == 0
    house.start()
    connection = client.connect()
    assert client.ask(connection) == 200
    connection.close()
    assert not client.resumed
