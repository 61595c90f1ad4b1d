"""What a handshake proves: which authority vouched, full or resumed; which certificate is shown; what is refused."""

from __future__ import annotations

import dataclasses
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.fakes.pki import CLIENT, SERVER, Leaf, TestAuthority
from ztproxy.errors import Unauthenticated
from ztproxy.proxy.tls import (
    Authority,
    ListenerContext,
    ListenerTls,
    ServerCertificate,
    UpstreamTls,
    sni_of,
    upstream_context,
    verified_chain,
)

BOTH = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@dataclasses.dataclass
class Pki:
    """Two authorities for clients, one for servers, and people."""

    folder: Path
    staff: TestAuthority
    build: TestAuthority
    edge: TestAuthority
    server: Leaf
    admin: Leaf
    bob: Leaf
    ci: Leaf

    def tls(self, **more: object) -> ListenerTls:
        given: dict[str, object] = {
            "certificates": (
                self.shown(self.server),
                dataclasses.replace(self.shown(self.admin), names=("Admin.Test", "root.test")),
            ),
            "authorities": (
                Authority(name="staff", pem=self.staff.path.read_text(), trust_domain="staff.test"),
                Authority(name="build", pem=self.build.path.read_text()),
            ),
            "client_certificates": "optional",
            **more,
        }
        return ListenerTls(**given)  # type: ignore[arg-type]

    @staticmethod
    def shown(leaf: Leaf) -> ServerCertificate:
        return ServerCertificate(certificate=leaf.certificate, key=leaf.key)

    def client(self, leaf: Leaf | None = None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.edge.path))
        if leaf is not None:
            context.load_cert_chain(leaf.certificate, leaf.key)
        if version is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    staff, build, edge = (TestAuthority(folder, name) for name in ("staff", "build", "edge"))
    return Pki(
        folder=folder,
        staff=staff,
        build=build,
        edge=edge,
        server=edge.issue("api", usages=SERVER, names=("api.test",)),
        admin=edge.issue("admin", usages=SERVER, names=("admin.test", "root.test")),
        bob=staff.issue("bob", uris=("spiffe://staff.test/bob",), ends=timedelta(hours=3)),
        ci=build.issue("ci"),
    )


class Handshake:
    """Both ends of a finished handshake, in memory."""

    def __init__(
        self,
        listener: ListenerContext,
        client: ssl.SSLContext,
        *,
        name: str | None = "api.test",
        session: ssl.SSLSession | None = None,
    ) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = listener.context.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        waiting = [self.client, self.server]
        while waiting:
            for end in tuple(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except ssl.SSLWantReadError:
                    pass
        with pytest.raises(ssl.SSLWantReadError):
            self.client.read(1)  # takes the ticket

    @property
    def session(self) -> ssl.SSLSession:
        assert self.client.session is not None
        return self.client.session

    @property
    def shown(self) -> str:
        """The name of the certificate the server showed."""
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def refused(listener: ListenerContext, handshake: Handshake) -> tuple[str, str]:
    with pytest.raises(Unauthenticated) as error:
        listener.presented(handshake.server)
    return error.value.code, error.value.public


@pytest.mark.parametrize("version", BOTH)
def test_the_authority_is_read_from_the_chain_that_was_verified(pki: Pki, version: ssl.TLSVersion) -> None:
    listener = ListenerContext(pki.tls())
    bob = listener.presented(Handshake(listener, pki.client(pki.bob, version=version)).server)
    ci = listener.presented(Handshake(listener, pki.client(pki.ci, version=version)).server)
    assert bob is not None
    assert ci is not None
    assert (bob.der, bob.authority, bob.trust_domain) == (pki.bob.der, "staff", "staff.test")
    assert (ci.der, ci.authority, ci.trust_domain) == (pki.ci.der, "build", None)
    assert timedelta(hours=2) < bob.chain_expires_at - datetime.now(UTC) < timedelta(hours=3)


def test_the_chain_is_as_verified_leaf_first(pki: Pki) -> None:
    listener = ListenerContext(pki.tls())
    leaf, root = verified_chain(Handshake(listener, pki.client(pki.bob)).server)
    assert leaf == pki.bob.der
    assert root == Leaf(pki.staff.path, pki.staff.path).der


@pytest.mark.parametrize("version", BOTH)
def test_a_resumed_session_keeps_its_authority(pki: Pki, version: ssl.TLSVersion) -> None:
    listener = ListenerContext(pki.tls())
    for leaf, authority in ((pki.bob, "staff"), (pki.ci, "build")):
        client = pki.client(leaf, version=version)
        full = Handshake(listener, client)
        first = listener.presented(full.server)
        again = Handshake(listener, client, session=full.session)
        assert again.client.session_reused
        assert verified_chain(again.server) == ()
        second = listener.presented(again.server)
        assert second is first
        assert second is not None
        assert second.authority == authority


@pytest.mark.parametrize("version", BOTH)
def test_a_resumed_session_of_someone_forgotten_is_refused(
    pki: Pki, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ztproxy.proxy.tls._MOST_REMEMBERED", 1)
    listener = ListenerContext(pki.tls())
    bob, ci = pki.client(pki.bob, version=version), pki.client(pki.ci, version=version)
    full = Handshake(listener, bob)
    listener.presented(full.server)
    listener.presented(Handshake(listener, ci).server)
    again = Handshake(listener, bob, session=full.session)
    assert again.client.session_reused
    assert refused(listener, again) == ("authn.certificate-invalid", "the resumed session is unknown")


@pytest.mark.parametrize("version", BOTH)
def test_a_ticket_of_another_listener_or_an_earlier_configuration_does_not_resume(
    pki: Pki, version: ssl.TLSVersion
) -> None:
    client = pki.client(pki.bob, version=version)
    full = Handshake(ListenerContext(pki.tls()), client)
    other = ListenerContext(pki.tls())
    again = Handshake(other, client, session=full.session)
    assert not again.client.session_reused
    presented = other.presented(again.server)
    assert presented is not None
    assert presented.authority == "staff"


def test_one_ticket_is_given_with_a_handshake(pki: Pki) -> None:
    assert ListenerContext(pki.tls()).context.num_tickets == 1


def test_a_certificate_of_a_stranger_breaks_the_handshake(pki: Pki, tmp_path: Path) -> None:
    stranger = TestAuthority(tmp_path, "staff").issue("bob", usages=CLIENT)
    with pytest.raises(ssl.SSLCertVerificationError):
        Handshake(ListenerContext(pki.tls()), pki.client(stranger, version=ssl.TLSVersion.TLSv1_2))


def test_an_expired_certificate_breaks_the_handshake(pki: Pki) -> None:
    old = pki.staff.issue("old", starts=timedelta(days=-2), ends=timedelta(days=-1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        Handshake(ListenerContext(pki.tls()), pki.client(old, version=ssl.TLSVersion.TLSv1_2))


def test_a_server_certificate_proves_no_client(pki: Pki) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        Handshake(
            ListenerContext(pki.tls()),
            pki.client(pki.staff.issue("api", usages=SERVER), version=ssl.TLSVersion.TLSv1_2),
        )


def test_a_chain_whose_authority_has_no_name_here_is_refused(pki: Pki) -> None:
    """The two lists come from one configuration; should they ever differ, nobody is let in."""
    listener = ListenerContext(pki.tls())
    listener.context.load_verify_locations(cadata=pki.edge.path.read_text())
    foreign = pki.edge.issue("mallory", usages=CLIENT)
    handshake = Handshake(listener, pki.client(foreign))
    assert refused(listener, handshake) == ("authn.certificate-invalid", "no authority of this listener vouched")


@pytest.mark.parametrize("version", BOTH)
def test_required_means_no_handshake_without_one(pki: Pki, version: ssl.TLSVersion) -> None:
    listener = ListenerContext(pki.tls(client_certificates="required"))
    with pytest.raises(ssl.SSLError):
        Handshake(listener, pki.client(version=version))
    assert listener.presented(Handshake(listener, pki.client(pki.bob, version=version)).server) is not None


@pytest.mark.parametrize("version", BOTH)
def test_optional_means_with_or_without(pki: Pki, version: ssl.TLSVersion) -> None:
    listener = ListenerContext(pki.tls(client_certificates="optional"))
    assert listener.presented(Handshake(listener, pki.client(version=version)).server) is None
    assert listener.presented(Handshake(listener, pki.client(pki.bob, version=version)).server) is not None


@pytest.mark.parametrize("version", BOTH)
def test_off_means_none_is_asked_for(pki: Pki, version: ssl.TLSVersion) -> None:
    listener = ListenerContext(pki.tls(client_certificates="off", authorities=()))
    assert listener.presented(Handshake(listener, pki.client(pki.bob, version=version)).server) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("api.test", "CN=api"),
        ("admin.test", "CN=admin"),
        ("ADMIN.test", "CN=admin"),
        ("root.test", "CN=admin"),
        (None, "CN=api"),
        ("unknown.test", "CN=api"),
    ],
)
def test_the_name_asked_for_chooses_the_certificate(pki: Pki, name: str | None, shown: str) -> None:
    listener = ListenerContext(pki.tls())
    client = pki.client(pki.bob)
    client.check_hostname = False
    handshake = Handshake(listener, client, name=name)
    assert handshake.shown == shown
    assert sni_of(handshake.server) == (None if name is None else name.lower())


@pytest.mark.parametrize("mode", ["required", "optional"])
@pytest.mark.parametrize("version", BOTH)
def test_every_certificate_asks_for_the_clients_own(pki: Pki, mode: str, version: ssl.TLSVersion) -> None:
    """Naming another server must not lead past the demand for a certificate (S16)."""
    listener = ListenerContext(pki.tls(client_certificates=mode))
    handshake = Handshake(listener, pki.client(pki.bob, version=version), name="admin.test")
    presented = listener.presented(handshake.server)
    assert presented is not None
    assert presented.authority == "staff"
    if mode == "required":
        with pytest.raises(ssl.SSLError):
            Handshake(listener, pki.client(version=version), name="admin.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused(pki: Pki, version: ssl.TLSVersion) -> None:
    client = pki.client(pki.bob, version=version)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Handshake(ListenerContext(pki.tls()), client)


def test_a_listener_can_demand_tls_1_3(pki: Pki) -> None:
    listener = ListenerContext(pki.tls(minimum="1.3"))
    assert Handshake(listener, pki.client(pki.bob)).server.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        Handshake(listener, pki.client(pki.bob, version=ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"])
def test_tls_1_2_without_forward_secrecy_or_aead_is_refused(pki: Pki, cipher: str) -> None:
    client = pki.client(pki.bob, version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Handshake(ListenerContext(pki.tls()), client)


def test_only_http_1_1_is_spoken(pki: Pki) -> None:
    assert Handshake(ListenerContext(pki.tls()), pki.client()).client.selected_alpn_protocol() == "http/1.1"


def test_a_key_that_does_not_belong_is_told_at_load(pki: Pki) -> None:
    mixed = ServerCertificate(certificate=pki.server.certificate, key=pki.admin.key)
    with pytest.raises(ssl.SSLError):
        ListenerContext(pki.tls(certificates=(mixed,)))


class Upstream:
    """A server that speaks TLS, as a listener does."""

    def __init__(self, pki: Pki, leaf: Leaf, *, certificates: str = "off") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.certificate, leaf.key)
        if certificates == "required":
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(pki.build.path)


def towards(pki: Pki, leaf: Leaf, tls: UpstreamTls, *, name: str = "api.test", certificates: str = "off") -> Handshake:
    upstream = Upstream(pki, leaf, certificates=certificates)
    return Handshake(upstream, upstream_context(tls), name=name)  # type: ignore[arg-type]


def test_an_upstream_is_verified_by_its_own_authority_and_name(pki: Pki) -> None:
    private = UpstreamTls(ca_pem=pki.edge.path.read_text())
    assert towards(pki, pki.server, private).client.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        towards(pki, pki.server, private, name="admin.test")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed certificate|unable to get"):
        towards(pki, pki.server, UpstreamTls(ca_pem=pki.staff.path.read_text()))
    with pytest.raises(ssl.SSLCertVerificationError):
        towards(pki, pki.server, UpstreamTls())


def test_a_common_name_is_no_name(pki: Pki) -> None:
    nameless = pki.edge.issue("api.test", usages=SERVER)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        towards(pki, nameless, UpstreamTls(ca_pem=pki.edge.path.read_text()))


def test_an_upstream_that_demands_our_certificate_gets_it(pki: Pki) -> None:
    ca = pki.edge.path.read_text()
    ours = UpstreamTls(ca_pem=ca, certificate=pki.ci.certificate, key=pki.ci.key)
    assert towards(pki, pki.server, ours, certificates="required").server.getpeercert(binary_form=True) == pki.ci.der
    with pytest.raises(ssl.SSLError):
        towards(pki, pki.server, UpstreamTls(ca_pem=ca), certificates="required")


def test_an_upstream_below_tls_1_2_is_refused(pki: Pki) -> None:
    upstream = Upstream(pki, pki.server)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        upstream.context.minimum_version = ssl.TLSVersion.TLSv1
        upstream.context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        Handshake(upstream, upstream_context(UpstreamTls(ca_pem=pki.edge.path.read_text())))  # type: ignore[arg-type]
