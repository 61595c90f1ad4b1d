"""Checks of what a configuration points at: keys, certificates, secrets and policies, read but not kept."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from ztproxy.config import pem
from ztproxy.config.caller import Issuer
from ztproxy.config.document import Place
from ztproxy.config.findings import Findings
from ztproxy.config.listener import Authority
from ztproxy.config.models import Config
from ztproxy.config.references import FileReference, Unresolvable, read_file

MAX_POLICY_BYTES: Final = 1024 * 1024
MAX_KEY_SET_BYTES: Final = 1024 * 1024

_Identity = tuple[bytes, bytes]
"""Subject and public key: what a chain is built by, so what tells one authority from another."""


def check(config: Config, now: datetime, findings: Findings) -> None:
    """Every file and reference of `config`, as of `now`."""
    reader = _Files(now, findings)
    for index, listener in enumerate(config.listeners):
        place: Place = ("listeners", index, "tls")
        reader.pair(place, listener.tls.certificate, listener.tls.key)
        for number, more in enumerate(listener.tls.more):
            reader.pair((*place, "more", number), more.certificate, more.key)
    reader.authorities(config)
    for index, issuer in enumerate(config.issuers):
        reader.issuer(("issuers", index), issuer)
    for index, key in enumerate(config.access_keys):
        reader.readable(("access_keys", index, "secret"), key.secret.secret)
        if isinstance(key.secret, FileReference):
            reader.private(("access_keys", index, "secret"), key.secret)
    for index, grant in enumerate(config.grants):
        for number, path in enumerate(grant.policies):
            reader.policy(("grants", index, "policies", number), path)
    for index, route in enumerate(config.routes):
        if route.policy is not None:
            reader.policy(("routes", index, "policy"), route.policy)
        reader.upstream(("routes", index, "upstream"), config, index)


def system_authorities() -> bool:
    """Whether this machine has CA certificates where its TLS library looks for them."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None or paths.capath is None:
        return paths.cafile is not None
    try:
        return bool(os.listdir(paths.capath))
    except OSError:
        return False


class _Files:
    def __init__(self, now: datetime, findings: Findings) -> None:
        self._now = now
        self._findings = findings

    def readable(self, place: Place, read: Callable[[], object]) -> None:
        try:
            read()
        except Unresolvable as error:
            self._findings.refuse(place, str(error))

    def policy(self, place: Place, path: Path) -> None:
        self.readable(place, lambda: read_file(path, limit=MAX_POLICY_BYTES))

    def private(self, place: Place, reference: FileReference) -> None:
        if pem.world_readable(reference.path):
            self._findings.warn(place, f"`{reference.path}` is readable by everyone on this machine")

    def pair(self, place: Place, certificate: FileReference, key: FileReference) -> None:
        chain = self._certificates((*place, "certificate"), certificate)
        try:
            public = pem.key_spki(key.path)
        except Unresolvable as error:
            self._findings.refuse((*place, "key"), str(error))
            return
        self.private((*place, "key"), key)
        if chain and pem.spki(chain[0]) != public:
            self._findings.refuse((*place, "key"), f"does not belong to the certificate `{certificate.path}`")

    def trust(self, place: Place, reference: FileReference) -> tuple[x509.Certificate, ...]:
        found = self._certificates(place, reference)
        if not all(pem.is_authority(certificate) for certificate in found):
            self._findings.refuse(place, f"`{reference.path}` holds a certificate that is not a CA's")
        return found

    def _certificates(self, place: Place, reference: FileReference) -> tuple[x509.Certificate, ...]:
        try:
            found = pem.certificates(reference.path)
        except Unresolvable as error:
            self._findings.refuse(place, str(error))
            return ()
        for certificate in found:
            wrong = pem.validity_problem(certificate, self._now)
            if wrong is not None:
                self._findings.refuse(place, f"a certificate in `{reference.path}` {wrong}")
                break
        return found

    def authorities(self, config: Config) -> None:
        """Each CA vouches under one name, and each name means the same CA on every listener."""
        meaning: dict[str, frozenset[_Identity]] = {}
        for index, listener in enumerate(config.listeners):
            asked = listener.tls.client_certificates
            owner: dict[_Identity, Authority] = {}
            here: dict[str, frozenset[_Identity]] = {}
            for number, authority in enumerate(asked.authorities if asked is not None else ()):
                place: Place = ("listeners", index, "tls", "client_certificates", "authorities", number)
                found = self.trust((*place, "ca"), authority.ca)
                identities = frozenset((c.subject.public_bytes(), pem.spki(c)) for c in found)
                for identity in identities:
                    other = owner.setdefault(identity, authority)
                    if other is not authority:
                        self._findings.refuse(
                            (*place, "ca"), f"holds a CA of authority `{other.name}`; one CA vouches under one name"
                        )
                        break
                if not identities:
                    continue
                here[authority.name] = identities
                if meaning.get(authority.name, identities) != identities:
                    self._findings.refuse(
                        (*place, "name"), f"`{authority.name}` means other CA certificates on another listener"
                    )
            meaning = here | meaning

    def issuer(self, place: Place, issuer: Issuer) -> None:
        if isinstance(issuer.jwks, FileReference):
            path = issuer.jwks.path
            self.readable((*place, "jwks"), lambda: read_file(path, limit=MAX_KEY_SET_BYTES))
        if issuer.ca is not None:
            self.trust((*place, "ca"), issuer.ca)
        fetched = issuer.jwks if isinstance(issuer.jwks, str) else issuer.issuer if issuer.jwks is None else ""
        if fetched.lower().startswith("https:") and issuer.ca is None and not system_authorities():
            self._findings.refuse(place, "`ca` is required, as this machine has no CA certificates of its own")

    def upstream(self, place: Place, config: Config, index: int) -> None:
        upstream = config.routes[index].upstream
        tls = upstream.tls
        if not upstream.secure:
            return
        if tls is not None and tls.ca is not None:
            self.trust((*place, "tls", "ca"), tls.ca)
        elif not system_authorities():
            self._findings.refuse(place, "`tls.ca` is required, as this machine has no CA certificates of its own")
        if tls is not None and tls.certificate is not None and tls.key is not None:
            self.pair((*place, "tls"), tls.certificate, tls.key)
