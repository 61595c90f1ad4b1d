"""A client certificate whose chain TLS has verified -> `Identity`.

TLS (OpenSSL) has shown that the chain leads to one of the listener's authorities. What is left to us:

1. the time, at every use: a resumed session validates no path (S37);
2. the leaf is one: no CA, key usage (when present) with `digitalSignature` and without signing rights;
3. extended key usage names `clientAuth`. STRICTER: RFC 5280 §4.2.1.12 reads its absence, and `anyExtendedKeyUsage`, as
   "for anything"; a certificate that does not say it is for clients is not for clients here;
4. under an authority with a SPIFFE trust domain: exactly one URI name, a SPIFFE ID of that trust domain with a path
   (X509-SVID §2-5). Under any other authority URI names mean nothing and are not shown.

The subject is the SPIFFE ID; without one the common name, for that is what people call a certificate by; without a
common name the first e-mail name, then the first DNS name. A certificate with none of these, or with several common
names and no SPIFFE ID, names nobody and is refused. Hex values are lower case.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ztproxy.authn.spiffe import SpiffeId, parse_spiffe_id
from ztproxy.authn.subject import is_identity_text
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity, PresentedCertificate

MAX_CERTIFICATE_BYTES: Final = 64 * 1024
MAX_NAMES: Final = 100
"""STRICTER: of each kind; policies look at every one of them on every request."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def certificate_identity(presented: PresentedCertificate, now: datetime) -> Identity:
    """Who a certificate stands for; its facts are condition keys, its end that of the chain.

    Raises: `Unauthenticated` (`authn.certificate-invalid`, `authn.certificate-expired`).
    """
    if len(presented.der) > MAX_CERTIFICATE_BYTES:
        raise _invalid(f"it is larger than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificate = x509.load_der_x509_certificate(presented.der)
        begins = certificate.not_valid_before_utc
        expires_at = min(presented.chain_expires_at, certificate.not_valid_after_utc)
        _check_leaf(certificate)
        names = _extension(certificate, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
        spiffe_id = _spiffe_id(names, presented.trust_domain)
        common_names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        emails = tuple(names.get_values_for_type(x509.RFC822Name))
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
        facts: dict[str, str | tuple[str, ...]] = {
            "ztproxy:clientcert/authority": presented.authority,
            "ztproxy:clientcert/fingerprintsha256": hashlib.sha256(presented.der).hexdigest(),
            "ztproxy:clientcert/serial": f"{certificate.serial_number:x}",
            "ztproxy:clientcert/spkisha256": hashlib.sha256(
                certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).hexdigest(),
            "ztproxy:clientcert/subject": certificate.subject.rfc4514_string(),
        }
    except Unauthenticated:
        raise
    except Exception as error:  # the reader is lazy and refuses a hostile certificate wherever it is looked at
        raise _invalid(f"it cannot be read: {type(error).__name__}") from error
    if not begins <= now < expires_at:
        raise Unauthenticated("authn.certificate-expired", "the client certificate is outside its validity")
    if max(len(emails), len(dns_names)) > MAX_NAMES:
        raise _invalid(f"it has more than {MAX_NAMES} names of a kind")
    if len(common_names) == 1:
        facts["ztproxy:clientcert/subjectcn"] = common_names[0]
    if emails:
        facts["ztproxy:clientcert/emailsan"] = emails
    if dns_names:
        facts["ztproxy:clientcert/dnssan"] = dns_names
    principals = [f"Federated:x509:{presented.authority}"]
    if spiffe_id is not None:
        facts["ztproxy:spiffeid"] = str(spiffe_id)
        principals.append(f"Federated:spiffe://{spiffe_id.trust_domain}")
    return Identity(
        subject=str(spiffe_id) if spiffe_id is not None else _subject(common_names, emails, dns_names),
        kind="certificate",
        issuer=presented.authority,
        method="certificate",
        authenticated_at=now,
        expires_at=expires_at.astimezone(UTC),
        principals=tuple(principals),
        facts=MappingProxyType(facts),
    )


def _check_leaf(certificate: x509.Certificate) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise _invalid("it is a certificate authority")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and (not usage.digital_signature or usage.key_cert_sign or usage.crl_sign):
        raise _invalid("its key usage is not that of a client")
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise _invalid("its extended key usage does not name `clientAuth`")


def _spiffe_id(names: x509.SubjectAlternativeName, trust_domain: str | None) -> SpiffeId | None:
    if trust_domain is None:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _invalid("it must have exactly one uri name")
    try:
        spiffe_id = parse_spiffe_id(uris[0])
    except ValueError as error:
        raise _invalid("its uri name is not a spiffe id") from error
    if spiffe_id.trust_domain != trust_domain:
        raise _invalid("its spiffe id is of a trust domain that is not this authority's")
    if not spiffe_id.path:
        raise _invalid("its spiffe id names a trust domain, not a workload")
    return spiffe_id


def _subject(common_names: list[str], emails: tuple[str, ...], dns_names: tuple[str, ...]) -> str:
    if len(common_names) > 1:
        raise _invalid("it has several common names")
    subject = next(iter((*common_names, *emails, *dns_names)), None)
    if subject is None or not is_identity_text(subject):
        raise _invalid("it has no plain common, e-mail or dns name")
    return subject


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _invalid(detail: str) -> Unauthenticated:
    return Unauthenticated(
        "authn.certificate-invalid", "the client certificate cannot prove an identity", detail=detail
    )
