"""The certificates do what the demo needs in a real handshake, and are renewed exactly when they must be."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ztproxy.dev.ca import (
    AUTHORITY_LIFE,
    EDGE,
    LEAF_LIFE,
    RENEW_BEFORE,
    Authority,
    CertificateFiles,
    Credential,
    Leaf,
    Pki,
    ensure_pki,
    write_private,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Both sides in memory until they agree; gives the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    server_end = ends[0]
    for _ in range(10):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
        if not ends:
            return server_end
    raise AssertionError("no handshake")


def contexts(pki: Pki, who: CertificateFiles | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.staff_ca)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(pki.edge.certificate, pki.edge.key)
    client = ssl.create_default_context(cafile=pki.edge_ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if who is not None:
        client.load_cert_chain(who.certificate, who.key)
    return server, client


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_proxy_and_person_meet(tmp_path: Path, name: str) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    seen = handshake(*contexts(pki, pki.people["bob"]), name).getpeercert()
    assert seen is not None
    assert seen["subject"] == ((("commonName", "bob"),),)
    assert seen["subjectAltName"] == (("email", "bob@example.com"),)


def test_a_person_is_not_taken_for_the_proxy(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    server, client = contexts(pki, pki.people["bob"])
    server.load_cert_chain(pki.people["bob"].certificate, pki.people["bob"].key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "localhost")


def test_the_proxy_is_not_taken_for_a_person(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(pki, pki.edge), "localhost")


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    ensure_pki(tmp_path / "tls", ["ada", "bob"], NOW)
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == 5
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_loosened_key_is_closed_again(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    pki.people["bob"].key.chmod(0o644)
    ensure_pki(tmp_path, ["bob"], NOW)
    assert stat.S_IMODE(pki.people["bob"].key.stat().st_mode) == 0o600


@pytest.mark.parametrize("later", [timedelta(0), LEAF_LIFE - RENEW_BEFORE - DAY], ids=["at once", "before renewal"])
def test_what_is_good_is_kept(tmp_path: Path, later: timedelta) -> None:
    ensure_pki(tmp_path, ["bob"], NOW)
    before = contents(tmp_path)
    ensure_pki(tmp_path, ["bob"], NOW + later)
    assert contents(tmp_path) == before


def test_leaves_near_their_end_are_renewed_under_the_same_authorities(tmp_path: Path) -> None:
    ensure_pki(tmp_path, ["bob"], NOW)
    before = contents(tmp_path)
    ensure_pki(tmp_path, ["bob"], NOW + LEAF_LIFE - RENEW_BEFORE)
    changed = {name for name, content in contents(tmp_path).items() if content != before[name]}
    assert changed == {"edge.pem", "edge.key", "people/bob.pem", "people/bob.key"}


def test_an_authority_is_replaced_before_a_leaf_could_outlive_it(tmp_path: Path) -> None:
    ensure_pki(tmp_path, ["bob"], NOW)
    before = contents(tmp_path)
    late = NOW + AUTHORITY_LIFE - LEAF_LIFE - RENEW_BEFORE
    pki = ensure_pki(tmp_path, ["bob"], late)
    after = contents(tmp_path)
    assert all(after[name] != before[name] for name in before)
    leaf = x509.load_pem_x509_certificate(pki.people["bob"].certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(pki.staff_ca.read_bytes())
    leaf.verify_directly_issued_by(authority)
    assert leaf.not_valid_after_utc == late + LEAF_LIFE < authority.not_valid_after_utc


def break_pem(files: CertificateFiles) -> None:
    files.certificate.write_bytes(files.certificate.read_bytes()[:100])


def break_key(files: CertificateFiles) -> None:
    files.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def lose_key(files: CertificateFiles) -> None:
    files.key.unlink()


def another_key(files: CertificateFiles) -> None:
    Authority.make("other", NOW).credential.save(
        CertificateFiles(certificate=files.certificate.with_name("x"), key=files.key)
    )


def rsa_key(files: CertificateFiles) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def foreign_issuer(files: CertificateFiles) -> None:
    email = x509.RFC822Name("bob@example.com")
    leaf = Leaf(name="bob", names=(email,), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    Authority.make("ztproxy dev staff-ca", NOW).issue(leaf, NOW).save(files)


def another_name(files: CertificateFiles) -> None:
    own = Authority.make("other", NOW)
    own.issue(Leaf(name="eve", names=(), usage=None), NOW).save(files)


@pytest.mark.parametrize(
    "damage",
    [break_pem, break_key, lose_key, another_key, rsa_key, foreign_issuer, another_name],
    ids=lambda f: f.__name__,
)
def test_what_is_damaged_is_issued_again(tmp_path: Path, damage: object) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    assert callable(damage)
    damage(pki.people["bob"])
    ensure_pki(tmp_path, ["bob"], NOW)
    assert handshake(*contexts(pki, pki.people["bob"]), "localhost").getpeercert() is not None


def test_a_leaf_of_other_names_is_issued_again(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["bob"], NOW)
    before = pki.edge.certificate.read_bytes()
    files = CertificateFiles(certificate=pki.staff_ca, key=pki.staff_ca.with_suffix(".key"))
    authority = Authority(credential=_credential(files))
    elsewhere = Leaf(name="bob", names=(x509.RFC822Name("bob@example.org"),), usage=EDGE.usage)
    authority.issue(elsewhere, NOW).save(pki.people["bob"])
    ensure_pki(tmp_path, ["bob"], NOW)
    seen = handshake(*contexts(pki, pki.people["bob"]), "localhost").getpeercert()
    assert seen is not None
    assert seen["subjectAltName"] == (("email", "bob@example.com"),)
    assert pki.edge.certificate.read_bytes() == before


def _credential(files: CertificateFiles) -> Credential:
    key = load_pem_private_key(files.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Credential(certificate=x509.load_pem_x509_certificate(files.certificate.read_bytes()), key=key)


@pytest.mark.parametrize("name", ["", "..", "../eve", "Bob", "bob smith", "b/c", "-x", "a" * 33, "bob\n"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a person"):
        ensure_pki(tmp_path / "tls", [name], NOW)
    assert not (tmp_path / "tls").exists()


def test_a_leaf_may_lack_its_usage() -> None:
    made = Authority.make("broken", NOW).issue(Leaf(name="x", names=(), usage=None), NOW - 2 * LEAF_LIFE)
    assert made.certificate.not_valid_after_utc < NOW
    with pytest.raises(x509.ExtensionNotFound):
        made.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_writing_replaces_whole_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writing_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "full").touch()
    with pytest.raises(OSError, match="secret"):
        write_private(tmp_path / "secret", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
