"""Where clients come in: sockets, PROXY header, TLS, client certificates."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ztproxy.config.base import NOT_YET, Model
from ztproxy.config.fields import DISTINCT, NOT_EMPTY, CertificateName, Listen, Name, Network, PemFile, TrustDomain
from ztproxy.config.refusal import refused


def _protocol(value: Any) -> Any:
    if value in ("postgres", "mysql", "tcp"):
        raise refused(f"is {NOT_YET}; write `http`")
    return value


class ProxyProtocol(Model):
    """The PROXY header before TLS: demanded or refused, never guessed."""

    mode: Literal["required", "off"] = "off"
    """`required`: a connection without the header is closed. `off`: one with it is."""
    trusted: Annotated[tuple[Network, ...], DISTINCT] = ()
    """Networks of the load balancers whose header is believed; everyone else is closed."""


class NamedCertificate(Model):
    """A further server certificate, chosen by SNI."""

    names: Annotated[tuple[CertificateName, ...], NOT_EMPTY, DISTINCT]
    """Server names that get it, exact or `*.` and one."""
    certificate: PemFile
    """PEM file: the certificate, then its intermediates."""
    key: PemFile
    """PEM file of its private key, not encrypted."""


class Authority(Model):
    """A certificate authority whose client certificates are accepted."""

    LATER: ClassVar[frozenset[str]] = frozenset({"crl"})
    name: Name
    """What policies call it: `x509:<name>`."""
    ca: PemFile
    """PEM file of its CA certificates."""
    spiffe: TrustDomain | None = None
    """The one SPIFFE trust domain it may vouch for; without it no SPIFFE ID of its certificates counts."""


class ClientCertificates(Model):
    """Who may present a client certificate, and whether one is demanded."""

    mode: Literal["required", "optional", "off"] = "required"
    """`required`: no handshake without one. `optional`: the route decides. `off`: none is asked for."""
    authorities: tuple[Authority, ...] = ()
    """Accepted authorities; at least one unless the mode is `off`."""


class ListenerTls(Model):
    """The server side of TLS."""

    certificate: PemFile
    """PEM file: the certificate, then its intermediates."""
    key: PemFile
    """PEM file of its private key, not encrypted."""
    more: tuple[NamedCertificate, ...] = ()
    """Certificates for other server names."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """Lowest TLS version, in quotes."""
    client_certificates: ClientCertificates | None = None
    """Client certificates; absent: none are asked for."""


class ListenerTimeouts(Model):
    """How long a listener waits for a client."""

    pre_auth_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """One deadline over PROXY header, TLS handshake and the first request head together."""
    idle_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long a connection may rest between requests."""


class Listener(Model):
    """One address to listen on."""

    LATER: ClassVar[frozenset[str]] = frozenset({"plaintext"})
    name: Name
    """Its name in records."""
    bind: Listen
    """IP address and port; IPv6 in brackets; port 0 takes a free one."""
    protocol: Annotated[Literal["http"], BeforeValidator(_protocol)]
    """`http`."""
    proxy_protocol: ProxyProtocol = ProxyProtocol()
    """The PROXY header."""
    tls: ListenerTls
    """TLS; an http listener has no plaintext form."""
    timeouts: ListenerTimeouts = ListenerTimeouts()
    """Deadlines towards the client."""

    @property
    def asks_certificate(self) -> bool:
        """Whether its handshake asks for a client certificate."""
        return self.tls.client_certificates is not None and self.tls.client_certificates.mode != "off"
