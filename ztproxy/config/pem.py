"""What can be said of PEM files before any handshake: readable, whole, in their validity, belonging together."""

from __future__ import annotations

import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ztproxy.config.references import Unresolvable, read_file

MAX_PEM_BYTES: Final = 1024 * 1024


def certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file, in order, at least one.

    Raises: `Unresolvable`.
    """
    content = read_file(path, limit=MAX_PEM_BYTES)
    try:
        found = tuple(x509.load_pem_x509_certificates(content))
        for certificate in found:
            spki(certificate)
    except (ValueError, UnsupportedAlgorithm):
        raise Unresolvable(f"`{path}` holds no valid PEM certificate") from None
    return found


def spki(certificate: x509.Certificate) -> bytes:
    """Its public key, as DER."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_spki(path: Path) -> bytes:
    """The public half of the unencrypted private key in a PEM file, as DER.

    Raises: `Unresolvable`, whose words never hold any of the key.
    """
    content = read_file(path, limit=MAX_PEM_BYTES)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise Unresolvable(f"`{path}` is encrypted; store the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unresolvable(f"`{path}` holds no valid PEM private key") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def validity_problem(certificate: x509.Certificate, now: datetime) -> str | None:
    """Why the certificate is of no use at `now`, if so."""
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
    return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign certificates, by its basic constraints (RFC 5280 §4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def world_readable(path: Path) -> bool:
    """Whether everyone on this machine may read the file."""
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & stat.S_IROTH)
    except OSError:
        return False
