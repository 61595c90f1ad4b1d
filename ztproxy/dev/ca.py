"""The demo's own certificate authorities, kept in a folder and renewed in time.

There are two, because they vouch for different things: `edge-ca` for the proxy towards its clients, `staff-ca` for
the clients towards the proxy. One authority for both would let any client pose as the proxy.

`ensure_pki` is idempotent: it takes what is there, and issues again what is missing, unreadable, foreign, differently
named or near its end. An authority is replaced before its remaining life is shorter than a leaf's, so a leaf never
outlives its issuer; leaves of a replaced authority no longer verify under the new one and are replaced with it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=30)
RENEW_BEFORE: Final = timedelta(days=7)
BACKDATED: Final = timedelta(minutes=5)
"""A clock that is stepped back a little must not make a fresh certificate invalid."""

_PERSON: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """A certificate and its private key as PEM files; the key is readable by its owner alone."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """Everything `ensure_pki` keeps."""

    edge_ca: Path
    """What clients trust."""
    edge: CertificateFiles
    staff_ca: Path
    """What the proxy trusts."""
    people: Mapping[str, CertificateFiles]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate with its private key, in memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def save(self, files: CertificateFiles) -> None:
        """Write both as PEM, the key first: a certificate without its key is never taken for a whole pair."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(files.key, key)
        write_private(files.certificate, self.certificate.public_bytes(Encoding.PEM))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a certificate is to say."""

    name: str
    names: tuple[x509.GeneralName, ...]
    """The subject's alternative names."""
    usage: x509.ObjectIdentifier | None
    """The extended key usage; None leaves it out, which no certificate of ours does outside of tests."""


EDGE: Final = Leaf(
    name="localhost",
    names=(
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
        x509.IPAddress(IPv6Address("::1")),
    ),
    usage=ExtendedKeyUsageOID.SERVER_AUTH,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority that can issue leaves of any shape, broken ones for tests included."""

    credential: Credential

    @classmethod
    def make(cls, name: str, now: datetime, *, life: timedelta = AUTHORITY_LIFE) -> Authority:
        """A new self-signed authority called `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        builder = _builder(subject, subject, key.public_key(), now - BACKDATED, now + life)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        return cls(credential=Credential(certificate=certificate, key=key))

    def issue(self, leaf: Leaf, now: datetime, *, life: timedelta = LEAF_LIFE) -> Credential:
        """A new certificate with a key of its own."""
        issuer = self.credential
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _subject(leaf.name), issuer.certificate.subject, key.public_key(), now - BACKDATED, now + life
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        if leaf.usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
        return Credential(certificate=builder.sign(issuer.key, hashes.SHA256()), key=key)


def ensure_pki(folder: Path, people: Iterable[str], now: datetime) -> Pki:
    """The authorities, the proxy's certificate and one client certificate per person, fresh enough to use.

    Raises: `ValueError` for a person's name that could not be a file's; `OSError`.
    """
    names = tuple(people)
    for name in names:
        if _PERSON.fullmatch(name) is None:
            raise ValueError(f"`{name}` is no name for a person: lower-case letters, digits and `-` only")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "people").mkdir(mode=0o700, exist_ok=True)
    edge_ca, edge_ca_files = _ensure_authority(folder, "edge-ca", now)
    staff_ca, staff_ca_files = _ensure_authority(folder, "staff-ca", now)
    edge = _files(folder, "edge")
    _ensure_leaf(edge_ca, edge, EDGE, now)
    staff = {name: _files(folder / "people", name) for name in names}
    for name, files in staff.items():
        email = x509.RFC822Name(f"{name}@example.com")
        leaf = Leaf(name=name, names=(email,), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        _ensure_leaf(staff_ca, files, leaf, now)
    return Pki(
        edge_ca=edge_ca_files.certificate,
        edge=edge,
        staff_ca=staff_ca_files.certificate,
        people=MappingProxyType(staff),
    )


def write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once and whole, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _ensure_authority(folder: Path, name: str, now: datetime) -> tuple[Authority, CertificateFiles]:
    files = _files(folder, name)
    known = _load(files)
    if known is not None and known.certificate.not_valid_after_utc - now > LEAF_LIFE + RENEW_BEFORE:
        return Authority(credential=known), files
    authority = Authority.make(f"ztproxy dev {name}", now)
    authority.credential.save(files)
    return authority, files


def _ensure_leaf(authority: Authority, files: CertificateFiles, leaf: Leaf, now: datetime) -> None:
    known = _load(files)
    if known is None or not _still_good(known.certificate, authority, leaf, now):
        authority.issue(leaf, now).save(files)


def _still_good(certificate: x509.Certificate, authority: Authority, leaf: Leaf, now: datetime) -> bool:
    if certificate.not_valid_after_utc - now <= RENEW_BEFORE or certificate.subject != _subject(leaf.name):
        return False
    try:
        certificate.verify_directly_issued_by(authority.credential.certificate)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return tuple(extension.value) == leaf.names


def _load(files: CertificateFiles) -> Credential | None:
    """The pair in these files; None when it is absent, broken, or not a pair."""
    try:
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            return None
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    files.key.chmod(0o600)
    return Credential(certificate=certificate, key=key)


def _files(folder: Path, name: str) -> CertificateFiles:
    return CertificateFiles(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
