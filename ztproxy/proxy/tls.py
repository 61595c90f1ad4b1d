"""TLS contexts for both sides, and what a finished handshake proves.

OpenSSL validates the path; which authority vouched is read from the chain it verified. A resumed session carries no
chain, so the first full handshake of a certificate is remembered, per context: tickets never cross listeners or
reloads, and what is remembered dies with the context (S37).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cachetools import LRUCache
from cryptography import x509

from ztproxy.errors import Unauthenticated
from ztproxy.types import PresentedCertificate

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!kRSA"
"""For TLS 1.2; forward secrecy and AEAD only."""
_MOST_REMEMBERED: Final = 65_536
_SNI: Final = "_ztproxy_sni"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A client certificate authority of one listener."""

    name: str
    pem: str
    trust_domain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """A certificate with its key, and the server names it is shown for; no names: for all others."""

    certificate: Path
    key: Path
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """What a listener's TLS is made of."""

    certificates: tuple[ServerCertificate, ...]
    """The first is the default."""
    authorities: tuple[Authority, ...] = ()
    client_certificates: str = "required"
    """`required`, `optional` or `off`."""
    minimum: str = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """How an upstream proves itself, and how we prove ourselves to it."""

    ca_pem: str | None = None
    """None: the system's authorities."""
    certificate: Path | None = None
    key: Path | None = None


_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "off": ssl.CERT_NONE}


def _server_context(tls: ListenerTls, shown: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1  # the second ticket costs 15 % of a handshake and no client of ours uses it
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(shown.certificate, shown.key)
    context.verify_mode = _VERIFY[tls.client_certificates]
    if tls.client_certificates != "off":
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for authority in tls.authorities:
            context.load_verify_locations(cadata=authority.pem)
    return context


class ListenerContext:
    """A listener's TLS, loaded: contexts by server name, authorities by certificate."""

    def __init__(self, tls: ListenerTls) -> None:
        self._by_name: Final[dict[str, ssl.SSLContext]] = {}
        default, *more = tls.certificates
        self.context: Final = _server_context(tls, default)
        for shown in more:
            context = _server_context(tls, shown)
            for name in shown.names:
                self._by_name[name.lower()] = context
        self.context.sni_callback = self._choose
        self._authorities: Final[dict[bytes, Authority]] = {}
        for authority in tls.authorities:
            for certificate in x509.load_pem_x509_certificates(authority.pem.encode()):
                self._authorities[_der(certificate)] = authority
        self._vouched: Final[LRUCache[bytes, PresentedCertificate]] = LRUCache(_MOST_REMEMBERED)

    def _choose(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            setattr(connection, _SNI, name.lower())
            chosen = self._by_name.get(name.lower())
            if chosen is not None:
                connection.context = chosen

    def presented(self, connection: ssl.SSLObject) -> PresentedCertificate | None:
        """The client certificate of a finished handshake; None: none came.

        Raises: `Unauthenticated` when no authority of this listener can be named for it.
        """
        der = connection.getpeercert(binary_form=True)
        if der is None:
            return None
        chain = verified_chain(connection)
        if not chain:
            known = self._vouched.get(der)
            if known is None:
                raise Unauthenticated(
                    "authn.certificate-invalid", "the resumed session is unknown", detail="no chain remembered"
                )
            return known
        authority = next((self._authorities[each] for each in reversed(chain) if each in self._authorities), None)
        if authority is None:
            raise Unauthenticated("authn.certificate-invalid", "no authority of this listener vouched")
        known = self._vouched.get(der)
        if known is None or known.authority != authority.name:
            known = self._vouched[der] = PresentedCertificate(
                der=der,
                authority=authority.name,
                chain_expires_at=_earliest_end(chain),
                trust_domain=authority.trust_domain,
            )
        return known


def sni_of(connection: ssl.SSLObject) -> str | None:
    """The server name the client asked for, lower case."""
    name: str | None = getattr(connection, _SNI, None)
    return name


def verified_chain(connection: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain OpenSSL verified, leaf first, in DER; empty for a resumed session."""
    # Public from Python 3.13; before, only on the object inside.
    source: Any = connection if hasattr(connection, "get_verified_chain") else connection._sslobj  # type: ignore[attr-defined]
    chain = source.get_verified_chain() or ()
    return tuple(each if isinstance(each, bytes) else each.public_bytes(_ENCODING_DER) for each in chain)


_ENCODING_DER: Final = 2
"""`_ssl.ENCODING_DER`."""


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _earliest_end(chain: Sequence[bytes]) -> datetime:
    return min(x509.load_der_x509_certificate(each).not_valid_after_utc for each in chain)


def upstream_context(tls: UpstreamTls) -> ssl.SSLContext:
    """The client side towards an upstream: full verification, TLS 1.2 or newer, never plain text instead."""
    context = ssl.create_default_context(cadata=tls.ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
