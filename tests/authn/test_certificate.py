from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.authn.certificates import der, presented
from tests.authn.tokens import NETWORK, NOW, stepped
from ztproxy.authn import certificate as module
from ztproxy.authn.certificate import CertificateAuthenticator
from ztproxy.authn.mtls import certificate_identity
from ztproxy.errors import Unauthenticated
from ztproxy.ports import Authenticator
from ztproxy.types import Evidence, Identity, PresentedCertificate, Secret

ADA = presented(der())


def identify(authenticator: CertificateAuthenticator, of: PresentedCertificate, after_s: float = 0) -> Identity:
    return stepped(authenticator.identify(Evidence(certificate=of), NETWORK, NOW + timedelta(seconds=after_s)))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[PresentedCertificate]:
    seen: list[PresentedCertificate] = []

    def reading(of: PresentedCertificate, now: datetime) -> Identity:
        seen.append(of)
        return certificate_identity(of, now)

    monkeypatch.setattr(module, "certificate_identity", reading)
    return seen


def test_it_recognises_certificates_alone() -> None:
    authenticator: Authenticator = CertificateAuthenticator()
    assert authenticator.name == "certificate"
    assert authenticator.recognises(Evidence(certificate=ADA))
    assert not authenticator.recognises(Evidence(bearer=Secret(b"x")))
    with pytest.raises(Unauthenticated) as caught:
        stepped(authenticator.identify(Evidence(), NETWORK, NOW))
    assert caught.value.code == "authn.certificate-missing"


def test_a_certificate_is_read_once(readings: list[PresentedCertificate]) -> None:
    authenticator = CertificateAuthenticator()
    first = identify(authenticator, ADA)
    assert identify(authenticator, replace(ADA), 60) is first
    assert len(readings) == 1


def test_time_is_asked_on_every_hit(readings: list[PresentedCertificate]) -> None:
    authenticator = CertificateAuthenticator()
    identify(authenticator, ADA)
    with pytest.raises(Unauthenticated) as caught:
        identify(authenticator, ADA, 3600)
    assert caught.value.code == "authn.certificate-expired"
    identify(authenticator, ADA)
    with pytest.raises(Unauthenticated):
        identify(authenticator, ADA, -3601)
    assert len(readings) == 4


def test_another_authority_is_another_question(readings: list[PresentedCertificate]) -> None:
    authenticator = CertificateAuthenticator()
    assert identify(authenticator, ADA).issuer == "staff"
    assert identify(authenticator, replace(ADA, authority="guests")).issuer == "guests"
    with pytest.raises(Unauthenticated):
        identify(authenticator, replace(ADA, trust_domain="prod.example.com"))


def test_refusals_are_not_kept(readings: list[PresentedCertificate]) -> None:
    authenticator = CertificateAuthenticator()
    bad = presented(der(purposes=None))
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            identify(authenticator, bad)
    assert len(readings) == 2


def test_the_cache_is_bounded_and_forgets_the_longest_unused(readings: list[PresentedCertificate]) -> None:
    authenticator = CertificateAuthenticator(cache_entries=2)
    one, two, three = (presented(der(serial=serial)) for serial in (1, 2, 3))
    for certificate in (one, two, one, three, one):
        identify(authenticator, certificate)
    assert len(readings) == 3
    identify(authenticator, two)
    assert len(readings) == 4


def test_large_certificates_are_not_kept(readings: list[PresentedCertificate], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_MAX_CERTIFICATE_BYTES", len(ADA.der) - 1)
    authenticator = CertificateAuthenticator()
    identify(authenticator, ADA)
    identify(authenticator, ADA)
    assert len(readings) == 2
