from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authn.certificates import CLIENT, KEY, SPIFFE, der, presented, usage
from tests.authn.tokens import NOW
from ztproxy.authn.mtls import MAX_CERTIFICATE_BYTES, MAX_NAMES, certificate_identity
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity, PresentedCertificate

PROD = "prod.example.com"


def identity(trust_domain: str | None = None, **shape: Any) -> Identity:
    return certificate_identity(presented(der(**shape), trust_domain=trust_domain), NOW)


def refused(of: PresentedCertificate, code: str = "authn.certificate-invalid") -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        certificate_identity(of, NOW)
    assert caught.value.code == code
    return caught.value


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_a_plain_certificate() -> None:
    octets = der(names=[x509.DNSName("a.example.com"), x509.DNSName("b.example.com"), x509.RFC822Name("ada@x.example")])
    who = certificate_identity(presented(octets), NOW)
    assert (who.subject, who.kind, who.issuer, who.method) == ("ada", "certificate", "staff", "certificate")
    assert (who.authenticated_at, who.expires_at) == (NOW, NOW + timedelta(hours=1))
    assert who.principals == ("Federated:x509:staff",)
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert dict(who.facts) == {
        "ztproxy:clientcert/authority": "staff",
        "ztproxy:clientcert/fingerprintsha256": hashlib.sha256(octets).hexdigest(),
        "ztproxy:clientcert/serial": "abc",
        "ztproxy:clientcert/spkisha256": hashlib.sha256(spki).hexdigest(),
        "ztproxy:clientcert/subject": "CN=ada",
        "ztproxy:clientcert/subjectcn": "ada",
        "ztproxy:clientcert/dnssan": ("a.example.com", "b.example.com"),
        "ztproxy:clientcert/emailsan": ("ada@x.example",),
    }


def test_a_spiffe_certificate() -> None:
    who = identity(PROD, names=[SPIFFE, x509.DNSName("a.example.com")], common_names=("x", "y"))
    assert who.subject == "spiffe://prod.example.com/billing"
    assert who.principals == ("Federated:x509:staff", "Federated:spiffe://prod.example.com")
    assert who.facts["ztproxy:spiffeid"] == who.subject
    assert "ztproxy:clientcert/subjectcn" not in who.facts


def test_uri_names_mean_nothing_without_a_trust_domain() -> None:
    who = identity(names=[SPIFFE, uri("https://x.example/")])
    assert who.subject == "ada"
    assert "ztproxy:spiffeid" not in who.facts
    assert len(who.principals) == 1


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([], "exactly one"),
        ([x509.DNSName("a.example.com")], "exactly one"),
        ([SPIFFE, uri("https://x.example/")], "exactly one"),
        ([SPIFFE, SPIFFE], "exactly one"),
        ([uri("https://prod.example.com/billing")], "not a spiffe id"),
        ([uri("spiffe://prod.example.com/a//b")], "not a spiffe id"),
        ([uri("spiffe://xprod.example.com/billing")], "trust domain"),
        ([uri("spiffe://prod.example.com.attacker.example/billing")], "trust domain"),
        ([uri("spiffe://prod.example.com")], "workload"),
    ],
)
def test_spiffe_rules(names: list[x509.GeneralName], word: str) -> None:
    assert word in refused(presented(der(names=names), trust_domain=PROD)).detail


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ({"purposes": None}, "clientAuth"),
        ({"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, "clientAuth"),
        ({"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "clientAuth"),
        ({"authority": True}, "authority"),
        ({"key_usage": usage(signing=False)}, "key usage"),
        ({"key_usage": usage(certificates=True)}, "key usage"),
        ({"key_usage": usage(crls=True)}, "key usage"),
        ({"common_names": ()}, "no plain"),
        ({"common_names": ("api", "admin")}, "several"),
        ({"common_names": (" api",)}, "no plain"),
        ({"common_names": ("api\x00.example.com",)}, "no plain"),
        ({"common_names": ("api\u202e",)}, "no plain"),
        ({"names": [x509.DNSName(f"h{n}.example.com") for n in range(MAX_NAMES + 1)]}, "names of a kind"),
        ({"names": [x509.RFC822Name(f"h{n}@example.com") for n in range(MAX_NAMES + 1)]}, "names of a kind"),
    ],
)
def test_certificates_refused(shape: dict[str, Any], word: str) -> None:
    assert word in refused(presented(der(**shape))).detail


@pytest.mark.parametrize(
    "shape",
    [
        {"authority": None},
        {"key_usage": usage()},
        {"purposes": [ExtendedKeyUsageOID.SERVER_AUTH, *CLIENT]},
    ],
)
def test_certificates_taken(shape: dict[str, Any]) -> None:
    assert identity(**shape).subject == "ada"


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        ([x509.DNSName("a.example.com"), x509.RFC822Name("ada@x.example")], "ada@x.example"),
        ([x509.DNSName("a.example.com"), x509.DNSName("b.example.com")], "a.example.com"),
    ],
)
def test_without_a_common_name_the_first_alternative_counts(names: list[x509.GeneralName], subject: str) -> None:
    assert identity(common_names=(), names=names).subject == subject


@pytest.mark.parametrize(
    "of",
    [
        presented(der(begins=NOW + timedelta(seconds=1))),
        presented(der(ends=NOW)),
        presented(der(), chain_expires_at=NOW),
    ],
)
def test_outside_its_validity(of: PresentedCertificate) -> None:
    refused(of, "authn.certificate-expired")


def test_the_earliest_end_counts() -> None:
    early = NOW + timedelta(seconds=5)
    assert certificate_identity(presented(der(), chain_expires_at=early), NOW).expires_at == early
    assert identity(ends=early).expires_at == early


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"junk",
        der()[:-1],
        der(names=[uri("spiffe://prod.example.com/caf")]).replace(b"/caf", b"/ca\xe9"),
        der(extra=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x05\x00")]),
        der(extra=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.15"), b"junk")]),
    ],
)
def test_what_cannot_be_read(octets: bytes) -> None:
    assert "cannot be read" in refused(presented(octets, trust_domain=PROD)).detail


def test_the_size_limit() -> None:
    assert "larger" in refused(presented(b"0" * (MAX_CERTIFICATE_BYTES + 1))).detail
