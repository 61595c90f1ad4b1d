"""A client certificate that cannot prove who is calling opens nothing, whichever layer finds out."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fakes.pki import CLIENT, SERVER, Leaf, TestAuthority
from tests.fakes.watch import NOBODY, WatchedHouse, failed, refused, served

SPIFFE = ("spiffe://test.example/bob",)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        edge = configuration["listeners"][0]
        clients = edge["tls"]["client_certificates"]
        for mode in ("required", "off"):
            tls = {**edge["tls"], "client_certificates": {**clients, "mode": mode}}
            if mode == "off":
                tls = {name: value for name, value in edge["tls"].items() if name != "client_certificates"}
            configuration["listeners"].append({**edge, "name": mode, "tls": tls})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


def foreign(house: WatchedHouse, name: str) -> TestAuthority:
    """An authority nobody configured."""
    folder = house.folder / name
    folder.mkdir(exist_ok=True)
    return TestAuthority(folder, name)


def self_signed(house: WatchedHouse) -> Leaf:
    """A root that presents itself."""
    authority = foreign(house, "itself")
    key = authority.folder / "itself.key"
    key.write_bytes(authority.key_pem)
    return Leaf(authority.path, key)


UNTRUSTED: dict[str, Callable[[WatchedHouse], Leaf]] = {
    "expired": lambda house: house.staff.issue(
        "bob", uris=SPIFFE, starts=timedelta(days=-2), ends=timedelta(seconds=-5)
    ),
    "not-yet-valid": lambda house: house.staff.issue("bob", uris=SPIFFE, starts=timedelta(hours=1)),
    "foreign": lambda house: foreign(house, "foreign").issue("bob", uris=SPIFFE),
    "namesake-of-the-authority": lambda house: foreign(house, "staff").issue("bob", uris=SPIFFE),
    "self-signed": self_signed,
    "for-servers": lambda house: house.staff.issue("bob", uris=SPIFFE, usages=SERVER),
    "for-code-signing": lambda house: house.staff.issue("bob", uris=SPIFFE, usages=(ExtendedKeyUsageOID.CODE_SIGNING,)),
}
"""OpenSSL refuses these in the handshake."""

UNPROVEN: dict[str, Callable[[WatchedHouse], Leaf]] = {
    "for-anything": lambda house: house.staff.issue("bob", uris=SPIFFE, usages=()),
    "another-trust-domain": lambda house: house.staff.issue("bob", uris=("spiffe://evil.example/bob",)),
    "two-spiffe-ids": lambda house: house.staff.issue("bob", uris=(*SPIFFE, "spiffe://test.example/ada")),
    "no-spiffe-id": lambda house: house.staff.issue("bob"),
}
"""OpenSSL accepts these, and the house does not."""


def refused_in_the_handshake(house: WatchedHouse, leaf: Leaf | object, listener: str) -> None:
    """In TLS 1.3 a client learns of it only when it reads; either way it gets no byte of HTTP."""
    try:
        connection = house.dial(leaf, listener=listener)
    except (ssl.SSLError, ConnectionError):
        return
    try:
        connection.send(house.request())
        assert connection.ended()
    except (ssl.SSLError, ConnectionError):
        pass
    finally:
        connection.close()


@pytest.mark.parametrize("listener", ["edge", "required"])
@pytest.mark.parametrize("kind", UNTRUSTED)
def test_an_untrusted_certificate_ends_the_handshake(house: WatchedHouse, kind: str, listener: str) -> None:
    leaf = UNTRUSTED[kind](house)
    with house.expecting(failed("protocol.certificate")):
        refused_in_the_handshake(house, leaf, listener)
    record = house.records("connection.failed")[-1]
    assert (record["listener"], record["peer"]) == (listener, "127.0.0.1")


@pytest.mark.parametrize("listener", ["edge", "required"])
@pytest.mark.parametrize("kind", UNPROVEN)
def test_a_certificate_that_proves_nothing_is_refused(house: WatchedHouse, kind: str, listener: str) -> None:
    leaf = UNPROVEN[kind](house)
    with house.expecting(refused("authn.certificate-invalid")):
        answer = house.ask_on(house.dial(leaf, listener=listener), house.request())
    assert answer.status == 401
    assert "certificate" not in answer.json["detail"]


def test_none_where_the_listener_demands_one(house: WatchedHouse) -> None:
    with house.expecting(failed("protocol.certificate")):
        refused_in_the_handshake(house, NOBODY, "required")


@pytest.mark.parametrize("listener", ["edge", "off"])
def test_none_where_the_route_demands_one(house: WatchedHouse, listener: str) -> None:
    with house.expecting(refused("authn.certificate-missing")):
        answer = house.ask_on(house.dial(NOBODY, listener=listener), house.request())
    assert answer.status == 401


@pytest.mark.parametrize("listener", ["edge", "required"])
def test_a_good_one_is_let_in(house: WatchedHouse, listener: str) -> None:
    leaf = house.staff.issue("bob", uris=SPIFFE, usages=CLIENT)
    with house.expecting(*served(), forwarded=1):
        answer = house.ask_on(house.dial(leaf, listener=listener), house.request())
    assert answer.status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_before_1_2_is_refused(house: WatchedHouse, version: ssl.TLSVersion) -> None:
    context = house.context(house.bob)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = version
    with house.expecting(failed("protocol.tls")), house.raw() as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00"])
def test_what_is_not_tls_is_closed_without_a_word(house: WatchedHouse, said: bytes) -> None:
    with house.expecting(failed("protocol.tls")), house.raw() as plain:
        plain.sendall(said)
        plain.shutdown(1)
        answer = plain.recv(4096)
    assert not answer.startswith(b"HTTP/")
