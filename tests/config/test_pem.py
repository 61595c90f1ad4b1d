"""PEM files: whole, valid now, of one pair; never a word of the key in what is said."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.config.sample import NOW, issue
from ztproxy.config import pem
from ztproxy.config.references import Unresolvable


def test_certificate_and_key_of_one_pair(tmp_path: Path) -> None:
    issue(tmp_path, "a")
    issue(tmp_path, "b")
    a, b = (pem.certificates(tmp_path / f"{name}.pem")[0] for name in "ab")
    assert pem.spki(a) == pem.key_spki(tmp_path / "a.key")
    assert pem.spki(b) != pem.key_spki(tmp_path / "a.key")


def test_bundle_is_read_in_order(tmp_path: Path) -> None:
    issue(tmp_path, "a")
    issue(tmp_path, "b")
    (tmp_path / "both.pem").write_bytes((tmp_path / "b.pem").read_bytes() + (tmp_path / "a.pem").read_bytes())
    both = pem.certificates(tmp_path / "both.pem")
    assert [c.subject.rfc4514_string() for c in both] == ["CN=b", "CN=a"]


@pytest.mark.parametrize("content", [b"", b"words", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_pem_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pem"
    path.write_bytes(content)
    with pytest.raises(Unresolvable) as error:
        pem.certificates(path)
    assert str(error.value) == f"`{path}` holds no valid PEM certificate"
    with pytest.raises(Unresolvable) as error:
        pem.key_spki(path)
    assert str(error.value) == f"`{path}` holds no valid PEM private key"


def test_key_in_the_place_of_a_certificate_and_the_other_way(tmp_path: Path) -> None:
    issue(tmp_path, "a")
    with pytest.raises(Unresolvable, match="holds no valid PEM certificate"):
        pem.certificates(tmp_path / "a.key")
    with pytest.raises(Unresolvable, match="holds no valid PEM private key"):
        pem.key_spki(tmp_path / "a.pem")


def test_encrypted_key_is_named_as_such(tmp_path: Path) -> None:
    issue(tmp_path, "a", passphrase=b"hunter2")
    with pytest.raises(Unresolvable, match="is encrypted; store the key without a passphrase"):
        pem.key_spki(tmp_path / "a.key")


def test_validity_is_judged_as_of_now(tmp_path: Path) -> None:
    issue(tmp_path, "a", not_before=NOW, not_after=NOW + timedelta(days=1))
    certificate = pem.certificates(tmp_path / "a.pem")[0]
    assert pem.validity_problem(certificate, NOW) is None
    assert pem.validity_problem(certificate, NOW + timedelta(days=1)) is None
    assert pem.validity_problem(certificate, NOW + timedelta(days=2)) == "expired on 2026-06-02 00:00:00 UTC"
    assert pem.validity_problem(certificate, NOW - timedelta(seconds=1)) == (
        "is not valid before 2026-06-01 00:00:00 UTC"
    )


def test_authority_is_what_its_constraints_say(tmp_path: Path) -> None:
    issue(tmp_path, "leaf")
    issue(tmp_path, "ca", ca=True)
    assert not pem.is_authority(pem.certificates(tmp_path / "leaf.pem")[0])
    assert pem.is_authority(pem.certificates(tmp_path / "ca.pem")[0])


def test_certificate_without_constraints_is_no_authority(tmp_path: Path) -> None:
    issue(tmp_path, "old", constraints=False)
    assert not pem.is_authority(pem.certificates(tmp_path / "old.pem")[0])


def test_who_may_read_the_file(tmp_path: Path) -> None:
    issue(tmp_path, "a", key=ec.generate_private_key(ec.SECP384R1()))
    assert not pem.world_readable(tmp_path / "a.key")
    os.chmod(tmp_path / "a.key", 0o644)
    assert pem.world_readable(tmp_path / "a.key")
    assert not pem.world_readable(tmp_path / "absent")
