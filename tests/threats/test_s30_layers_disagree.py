"""S30: TLS and the house judge the same certificate each by itself; either alone keeps a stranger out.

Each test takes one layer's check away and shows that the other one holds; without that other one it fails.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.pki import SERVER, Leaf, TestAuthority
from tests.fakes.watch import WatchedHouse, served
from ztproxy.authn.mtls import certificate_identity
from ztproxy.errors import Unauthenticated
from ztproxy.proxy.tls import Authority, ListenerContext, ListenerTls, ServerCertificate
from ztproxy.types import PresentedCertificate

SPIFFE = ("spiffe://test.example/bob",)


class Desk:
    """A listener's TLS without a network: a handshake in memory."""

    def __init__(self, folder: Path) -> None:
        self.staff = TestAuthority(folder, "staff")
        self.foreign = TestAuthority(folder, "foreign")
        self.server = self.staff.issue("localhost", usages=SERVER, names=("localhost",))
        self.listener = ListenerContext(
            ListenerTls(
                certificates=(ServerCertificate(certificate=self.server.certificate, key=self.server.key),),
                authorities=(Authority(name="staff", pem=self.staff.path.read_text(), trust_domain="test.example"),),
                client_certificates="optional",
            )
        )

    def handshake(self, leaf: Leaf) -> ssl.SSLObject:
        """The server's side of a finished handshake with this certificate."""
        context = ssl.create_default_context(cafile=str(self.staff.path))
        context.load_cert_chain(leaf.certificate, leaf.key)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(down, up, server_hostname="localhost")
        server = self.listener.context.wrap_bio(up, down, server_side=True)
        waiting = [client, server]
        while waiting:
            for side in tuple(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    continue
        return server


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_handshake_alone_keeps_a_stranger_out(desk: Desk) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        desk.handshake(desk.foreign.issue("bob", uris=SPIFFE))


def test_the_house_alone_keeps_a_stranger_out(desk: Desk) -> None:
    """TLS has come to trust an authority that no listener names."""
    desk.listener.context.load_verify_locations(desk.foreign.path)
    connection = desk.handshake(desk.foreign.issue("bob", uris=SPIFFE))
    assert connection.getpeercert()
    with pytest.raises(Unauthenticated) as caught:
        desk.listener.presented(connection)
    assert caught.value.code == "authn.certificate-invalid"


@pytest.mark.parametrize("namesake", [True, False])
def test_the_authority_is_the_one_that_signed_and_not_one_so_named(tmp_path: Path, namesake: bool) -> None:
    other = tmp_path / "other"
    other.mkdir()
    desk = Desk(tmp_path)
    impostor = TestAuthority(other, "staff" if namesake else "other")
    desk.listener.context.load_verify_locations(impostor.path)
    with pytest.raises((Unauthenticated, ssl.SSLCertVerificationError)):
        desk.listener.presented(desk.handshake(impostor.issue("bob", uris=SPIFFE)))


def test_a_handshake_without_verification_proves_nothing(desk: Desk) -> None:
    """TLS asks for a certificate and looks at none: the chain it verified is empty, and nobody is remembered."""
    leaf = desk.staff.issue("bob", uris=SPIFFE)
    connection = desk.handshake(leaf)
    assert desk.listener.presented(connection) is not None

    class Unverified:
        """The same connection, with nothing verified, and a certificate nobody has seen before."""

        _sslobj = None

        def getpeercert(self, *, binary_form: bool) -> bytes:
            assert binary_form
            return desk.foreign.issue("bob", uris=SPIFFE).der

        def get_verified_chain(self) -> list[bytes]:
            return []

    with pytest.raises(Unauthenticated):
        desk.listener.presented(Unverified())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"usages": SERVER}, "authn.certificate-invalid"),
        ({"usages": ()}, "authn.certificate-invalid"),
        ({"uris": ("spiffe://evil.example/bob",)}, "authn.certificate-invalid"),
        ({"ends": timedelta(seconds=-5), "starts": timedelta(days=-2)}, "authn.certificate-expired"),
        ({"starts": timedelta(hours=1)}, "authn.certificate-expired"),
    ],
)
def test_the_policy_layer_alone_judges_purpose_time_and_name(desk: Desk, changes: dict[str, object], code: str) -> None:
    """TLS would have let each of these in."""
    leaf = desk.staff.issue("bob", **{"uris": SPIFFE, **changes})  # type: ignore[arg-type]
    now = datetime.now(UTC)
    presented = PresentedCertificate(
        der=leaf.der, authority="staff", chain_expires_at=now + timedelta(days=1), trust_domain="test.example"
    )
    with pytest.raises(Unauthenticated) as caught:
        certificate_identity(presented, now)
    assert caught.value.code == code


def test_record_upstream_and_handshake_name_one_caller(house: WatchedHouse) -> None:
    """Two callers interleaved on two connections: nobody is ever taken for the other."""
    ada = house.staff.issue("ada", uris=("spiffe://test.example/ada",))
    connections = {"ada": house.connect(ada), "bob": house.connect(house.bob)}
    with house.expecting(*served() * 20, forwarded=20):
        told = {}
        for _ in range(10):
            for name, connection in connections.items():
                answer = connection.send(house.request(token=house.tokens.token(sub=name))).answer()
                told[answer.value("x-ztproxy-id")] = name
    ports = {name: connection.socket.getsockname()[1] for name, connection in connections.items()}
    for connection in connections.values():
        connection.close()
    for record in house.records("access.decided"):
        if record["id"] in told:
            name = told[record["id"]]
            assert (record["identity"]["subject"], record["network"]["peer_port"]) == (name, ports[name])
    for request in house.upstream.requests:
        identifier = request.values(b"x-ztproxy-request-id")[0].decode()
        if identifier in told:
            assert request.values(b"x-ztproxy-subject") == [told[identifier].encode()]
