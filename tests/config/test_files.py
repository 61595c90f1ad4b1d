"""What a configuration points at is looked at before anything starts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.config.sample import NOW, WHOLE, issue, loaded, materialise, private, problems
from ztproxy.config.files import system_authorities

STAFF = "{name: staff, ca: file:tls/staff-ca.pem, spiffe: prod.example.com}"
AUTHORITIES = f"        authorities: [{STAFF}]\n"
SECOND = """\
  - name: office
    bind: 127.0.0.1:9443
    protocol: http
    tls: {certificate: file:tls/edge.pem, key: file:tls/edge.key, client_certificates: {authorities: [AUTHORITY]}}
network:
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of its own, whose files may be spoilt."""
    materialise(tmp_path, WHOLE)
    return tmp_path


def test_every_file_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, WHOLE)
    assert [line.split(": ")[1] for line in found] == [
        "listeners.0.tls.certificate",
        "listeners.0.tls.key",
        "listeners.0.tls.more.0.certificate",
        "listeners.0.tls.more.0.key",
        "listeners.0.tls.client_certificates.authorities.0.ca",
        "issuers.0.ca",
        "access_keys.0.secret",
        "grants.0.policies.0",
        "grants.1.policies.0",
        "routes.0.policy",
        "routes.0.upstream.tls.ca",
        "routes.0.upstream.tls.certificate",
        "routes.0.upstream.tls.key",
    ]
    assert all(line.endswith("cannot be read: no such file or directory") for line in found)


def test_key_of_another_certificate_is_refused(own: Path) -> None:
    (own / "tls/edge.key").write_bytes((own / "tls/admin.key").read_bytes())
    assert problems(own, WHOLE) == [
        f"10:12: listeners.0.tls.key: does not belong to the certificate `{own}/tls/edge.pem`"
    ]


def test_certificate_outside_its_validity_is_refused(own: Path) -> None:
    issue(own / "tls", "edge", not_after=NOW - timedelta(days=1))
    issue(own / "tls", "us", not_before=NOW + timedelta(days=1))
    assert problems(own, WHOLE) == [
        f"9:20: listeners.0.tls.certificate: a certificate in `{own}/tls/edge.pem` expired on 2026-05-31 00:00:00 UTC",
        f"47:53: routes.0.upstream.tls.certificate: a certificate in `{own}/tls/us.pem` "
        "is not valid before 2026-06-02 00:00:00 UTC",
    ]


def test_authority_must_be_a_ca(own: Path) -> None:
    issue(own / "tls", "staff-ca")
    assert [line.split(": ", 1)[1] for line in problems(own, WHOLE)] == [
        f"{place}: `{own}/tls/staff-ca.pem` holds a certificate that is not a CA's"
        for place in (
            "listeners.0.tls.client_certificates.authorities.0.ca",
            "issuers.0.ca",
            "routes.0.upstream.tls.ca",
        )
    ]


def test_one_ca_vouches_under_one_name(own: Path) -> None:
    key = issue(own / "tls", "staff-ca", ca=True)
    renewed = own / "renewed"
    renewed.mkdir()
    issue(renewed, "staff-ca", ca=True, key=key, not_after=NOW + timedelta(days=90))
    issue(own / "tls", "prod-ca", ca=True)
    fine = WHOLE.replace(STAFF, f"{STAFF}, {{name: prod, ca: file:tls/prod-ca.pem}}")
    assert problems(own, fine) == []
    for path in ("tls/staff-ca.pem", "renewed/staff-ca.pem"):
        same = WHOLE.replace(STAFF, f"{STAFF}, {{name: prod, ca: file:{path}}}")
        assert problems(own, same) == [
            "15:108: listeners.0.tls.client_certificates.authorities.1.ca: holds a CA of authority `staff`; "
            "one CA vouches under one name"
        ]


def test_one_name_means_the_same_ca_everywhere(own: Path) -> None:
    issue(own / "tls", "prod-ca", ca=True)
    same = WHOLE.replace("network:\n", SECOND.replace("AUTHORITY", "{name: staff, ca: file:tls/staff-ca.pem}"))
    assert problems(own, same) == []
    other = WHOLE.replace("network:\n", SECOND.replace("AUTHORITY", "{name: staff, ca: file:tls/prod-ca.pem}"))
    assert problems(own, other) == [
        "20:110: listeners.1.tls.client_certificates.authorities.0.name: "
        "`staff` means other CA certificates on another listener"
    ]


def test_key_set_file_must_be_there(own: Path) -> None:
    text = WHOLE.replace("jwks: https://login.example.com/keys", "jwks: file:keys.json")
    assert problems(own, text) == [
        f"27:11: issuers.0.jwks: `{own}/keys.json` cannot be read: no such file or directory"
    ]
    (own / "keys.json").write_text("{}")
    assert problems(own, text) == []


def test_secret_must_resolve(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(own / "keys/ci.secret", b"\n")
    assert problems(own, WHOLE) == [f"30:30: access_keys.0.secret: `{own}/keys/ci.secret` is empty"]
    text = WHOLE.replace("file:keys/ci.secret", "env:ZT_TEST_CI")
    monkeypatch.delenv("ZT_TEST_CI", raising=False)
    assert problems(own, text) == ["30:30: access_keys.0.secret: the environment has no variable `ZT_TEST_CI`"]
    monkeypatch.setenv("ZT_TEST_CI", "hunter2")
    assert problems(own, text) == []


def test_private_file_that_everyone_reads_is_flagged(own: Path) -> None:
    for name in ("tls/edge.key", "keys/ci.secret"):
        os.chmod(own / name, 0o644)
    assert [f"{w.line}:{w.column}: {w.message}" for w in loaded(own, WHOLE).warnings] == [
        f"10:12: listeners.0.tls.key: `{own}/tls/edge.key` is readable by everyone on this machine",
        f"30:30: access_keys.0.secret: `{own}/keys/ci.secret` is readable by everyone on this machine",
    ]


def test_machine_without_authorities_needs_them_in_the_configuration(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(own / "absent.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(own / "absent"))
    assert not system_authorities()
    assert problems(own, WHOLE) == []
    text = WHOLE.replace("    ca: file:tls/staff-ca.pem\n", "").replace("tls: {ca: file:tls/staff-ca.pem, c", "tls: {c")
    assert problems(own, text) == [
        "21:5: issuers.0: `ca` is required, as this machine has no CA certificates of its own",
        "45:7: routes.0.upstream: `tls.ca` is required, as this machine has no CA certificates of its own",
    ]
    plain = WHOLE.replace(
        "tls: {ca: file:tls/staff-ca.pem, certificate: file:tls/us.pem, key: file:tls/us.key, ", "tls: {"
    )
    assert problems(own, plain) == [
        "46:7: routes.0.upstream: `tls.ca` is required, as this machine has no CA certificates of its own"
    ]
    discovered = WHOLE.replace("    jwks: https://login.example.com/keys\n    ca: file:tls/staff-ca.pem\n", "")
    assert problems(own, discovered) == [
        "21:5: issuers.0: `ca` is required, as this machine has no CA certificates of its own"
    ]
    local = discovered.replace("issuer: https://login.example.com", "issuer: http://127.0.0.1:9100")
    assert problems(own, local) == []


def test_authorities_of_the_machine_are_a_file_or_a_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(own / "absent.pem"))
    folder = own / "certs"
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert not system_authorities()
    (folder / "0a1b2c3d.0").write_bytes(b"x")
    assert system_authorities()
    with monkeypatch.context() as unreadable:
        unreadable.setattr("ztproxy.config.files.os.listdir", _refusing)
        assert not system_authorities()
    monkeypatch.setenv("SSL_CERT_DIR", str(own / "absent"))
    monkeypatch.setenv("SSL_CERT_FILE", str(own / "tls/staff-ca.pem"))
    assert system_authorities()
    text = WHOLE.replace("tls: {ca: file:tls/staff-ca.pem, certificate", "tls: {certificate")
    assert problems(own, text) == []


def _refusing(path: str) -> list[str]:
    raise PermissionError(13, "Permission denied")
