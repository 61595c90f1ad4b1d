"""Client certificates of every shape for the identity tests, signed by a throw-away key: TLS has judged the chain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.authn.tokens import NOW
from ztproxy.types import PresentedCertificate

KEY: Final = ec.generate_private_key(ec.SECP256R1())
CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SPIFFE: Final = x509.UniformResourceIdentifier("spiffe://prod.example.com/billing")


def usage(*, signing: bool = True, certificates: bool = False, crls: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=crls,
        encipher_only=False,
        decipher_only=False,
    )


def der(
    *,
    common_names: Sequence[str] = ("ada",),
    names: Sequence[x509.GeneralName] = (),
    purposes: Sequence[ObjectIdentifier] | None = CLIENT,
    key_usage: x509.KeyUsage | None = None,
    authority: bool | None = False,
    begins: datetime = NOW - timedelta(hours=1),
    ends: datetime = NOW + timedelta(hours=1),
    serial: int = 0xABC,
    extra: Sequence[x509.ExtensionType] = (),
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in common_names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")]))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    extensions: list[x509.ExtensionType] = list(extra)
    if names:
        extensions.append(x509.SubjectAlternativeName(names))
    if purposes is not None:
        extensions.append(x509.ExtendedKeyUsage(purposes))
    if key_usage is not None:
        extensions.append(key_usage)
    if authority is not None:
        extensions.append(x509.BasicConstraints(ca=authority, path_length=None))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def presented(
    octets: bytes,
    *,
    authority: str = "staff",
    chain_expires_at: datetime = NOW + timedelta(hours=1),
    trust_domain: str | None = None,
) -> PresentedCertificate:
    return PresentedCertificate(
        der=octets, authority=authority, chain_expires_at=chain_expires_at, trust_domain=trust_domain
    )
