"""A whole configuration with real PEM files, and ways to break it and see what is said."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ztproxy.config import Config, load
from ztproxy.errors import ConfigError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MARK = "§"
"""Stands in a broken text where the problem must point; it is removed before reading."""

WHOLE = """\
version: 1
arn: {partition: aws, region: eu-west-1, account: "111122223333"}
listeners:
  - name: edge
    bind: 127.0.0.1:8443
    protocol: http
    proxy_protocol: {mode: required, trusted: [10.0.0.0/16]}
    tls:
      certificate: file:tls/edge.pem
      key: file:tls/edge.key
      more: [{names: [admin.example.com], certificate: file:tls/admin.pem, key: file:tls/admin.key}]
      minimum: "1.2"
      client_certificates:
        mode: optional
        authorities: [{name: staff, ca: file:tls/staff-ca.pem, spiffe: prod.example.com}]
    timeouts: {pre_auth_s: 10, idle_s: 60}
network:
  vpc_endpoints:
    vpce-0123456789abcdef0: {vpc: vpc-0a1b2c3d, account: "444455556666"}
issuers:
  - name: corp
    issuer: https://login.example.com
    audiences: [api://orders]
    algorithms: [RS256]
    leeway_s: 60
    claims: {subject: sub, groups: groups, tags: {team: department}}
    jwks: https://login.example.com/keys
    ca: file:tls/staff-ca.pem
access_keys:
  - {id: EXAMPLEKEY, secret: file:keys/ci.secret, user: ci, groups: [build], tags: {team: platform}}
sigv4: {regions: [eu-west-1], services: [execute-api], skew_s: 300}
grants:
  - match: {issuer: corp, group: dev, subject: ada}
    policies: [policies/dev.yaml]
  - match: {spiffe: "spiffe://prod.example.com/billing", principal: "arn:aws:iam::111122223333:user/ci"}
    policies: [policies/dev.yaml]
routes:
  - name: orders
    stage: prod
    api_id: orders
    host: api.example.com
    path: /orders/**
    authenticate: {all_of: [certificate], any_of: [corp, sigv4]}
    policy: policies/orders.yaml
    upstream:
      url: https://orders.internal:8443
      tls: {ca: file:tls/staff-ca.pem, certificate: file:tls/us.pem, key: file:tls/us.key, server_name: orders.internal}
      pool: {max_connections: 100}
    audit: required
    deny_detail: reason
    timeouts: {connect_s: 3, response_s: 60, total_s: 300}
    limits: {body_bytes: 10485760}
audit: {spool: spool, segment_bytes: 67108864}
"""


def problems(folder: Path, text: str) -> list[str]:
    """Every problem of a configuration, as `line:column: message`; none when it loads."""
    try:
        loaded(folder, text)
    except ConfigError as error:
        return [f"{problem.line}:{problem.column}: {problem.message}" for problem in error.problems]
    return []


def loaded(folder: Path, text: str) -> Config:
    """The configuration in `text`, with the files of `folder` beside it."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, now=NOW)


def broken(old: str, new: str, *, base: str = WHOLE) -> tuple[str, str]:
    """`base` with one place changed, and the `line:column` that `MARK` shows in `new`."""
    assert base.count(old) == 1, f"{old!r} must stand exactly once"
    text = base.replace(old, new)
    before, mark, after = text.partition(MARK)
    assert mark, "the change must hold the mark"
    return before + after, f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def issue(
    folder: Path,
    name: str,
    *,
    ca: bool = False,
    key: ec.EllipticCurvePrivateKey | None = None,
    not_before: datetime = NOW - timedelta(days=30),
    not_after: datetime = NOW + timedelta(days=30),
    passphrase: bytes | None = None,
    constraints: bool = True,
    forever: bool = False,
) -> ec.EllipticCurvePrivateKey:
    """Write `<name>.pem` and `<name>.key`, signed by itself; nothing here verifies chains."""
    if forever:
        not_before, not_after = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, not_before, not_after)
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    (folder / f"{name}.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private(folder / f"{name}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return key


def private(path: Path, content: bytes) -> None:
    """Write a file only its owner reads."""
    path.write_bytes(content)
    os.chmod(path, 0o600)


def materialise(folder: Path, text: str) -> None:
    """Write every file that the configuration in `text` refers to and `folder` does not have."""
    for written in _strings(yaml.safe_load(text)):
        scheme, _, target = written.rpartition(":")
        path = folder / target
        if scheme == "file" or target.startswith("policies/"):
            path.parent.mkdir(exist_ok=True)
        if scheme == "file" and path.suffix == ".pem" and not path.exists():
            issue(path.parent, path.stem, ca=path.stem.endswith("-ca"))
        elif scheme == "file" and path.suffix not in (".pem", ".key"):
            private(path, b"c2VjcmV0\n")
        elif target.startswith("policies/") and not path.exists():
            path.write_text("{}")


def _strings(data: object) -> list[str]:
    if isinstance(data, dict):
        return [text for value in data.values() for text in _strings(value)]
    if isinstance(data, list):
        return [text for value in data for text in _strings(value)]
    return [data] if isinstance(data, str) else []
