"""Addresses, networks, host names and URLs as an operator writes them, each to its one canonical form."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ztproxy.config.refusal import private, refused, text_of
from ztproxy.errors import ProtocolError
from ztproxy.wire.host import canonical_host

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL: Final = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bind:
    """An address and a port to listen on; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bind(value: object) -> Bind:
    """Address and port."""
    text = text_of(value)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        address = None
    if (
        address is None
        or not colon
        or bracketed != (address.version == 6)
        or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII)
        or int(port) > 65535
    ):
        raise refused("must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443`")
    return Bind(str(address), int(port))


def network(value: object) -> IpNetwork:
    """A network in the family its peers are compared in."""
    text = text_of(value)
    try:
        parsed = ipaddress.ip_network(text)
    except ValueError:
        try:
            closest = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise refused("must be a network, such as `10.0.0.0/16`") from None
        raise refused(f"has bits set behind its length; write `{closest}`") from None
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.network_address.ipv4_mapped is not None:
        # Peers are compared in canonical form, where a mapped address is IPv4 (S33): this would never match.
        raise refused("must be written as an IPv4 network")
    return parsed


def host_pattern(value: object) -> str:
    """What a route may answer for, lower case."""
    text = text_of(value).lower()
    if text == "*":
        return text
    name = text.removeprefix("*.")
    if text.startswith("[") and text.endswith("]"):
        try:
            return canonical_host(text.encode("ascii", "replace"))  # the spelling requests are routed by
        except ProtocolError:
            raise refused("must hold an IPv6 address in the brackets") from None
    if not name.isascii():
        raise refused("must be written in its ASCII form, `xn--...`")
    if not _HOST.fullmatch(name):
        raise refused("must be a host name without port or final dot, `*.` and such a name, or `*`")
    return text


def server_name(value: object) -> str:
    """One exact host name, lower case."""
    text = text_of(value).lower()
    if not _HOST.fullmatch(text):
        raise refused("must be a host name without port or final dot")
    return text


def certificate_name(value: object) -> str:
    """A name as certificates carry them, lower case."""
    text = text_of(value).lower()
    if not _HOST.fullmatch(text.removeprefix("*.")):
        raise refused("must be a host name, or `*.` and one")
    return text


def _url(value: object, what: str) -> SplitResult:
    """Scheme, host and port of a URL that carries nothing hidden."""
    text = text_of(value)
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise private(f"must be {what}") from None
    if "@" in url.netloc:
        raise private("must not hold a user or password")
    if (
        not host
        or not re.fullmatch(r"[!-~]+", text)
        or "\\" in text
        or port == 0
        or url.scheme not in ("http", "https")
    ):
        raise refused(f"must be {what}")
    if not is_loopback(host) and not _HOST.fullmatch(host) and not _is_address(host):
        raise refused(f"must be {what}")
    if url.query or url.fragment or "?" in text or "#" in text:
        raise private("must have neither a query nor a fragment")
    return url


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def protected_url(value: object, what: str) -> str:
    """A URL whose traffic nobody between can read; `what` says which in messages."""
    url = _url(value, what)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise refused("must use https, as it does not stay on this machine")
    return text_of(value)


def issuer_url(value: object) -> str:
    """An issuer's URL, kept exactly as written."""
    return protected_url(value, "the issuer's URL, such as `https://login.example.com`")


def upstream_url(value: object) -> str:
    """An origin: scheme, host and port."""
    url = _url(value, "`http://host:port` or `https://host:port`")
    if url.path not in ("", "/"):
        raise refused("must have no path; the upstream gets the path that was asked for")
    return text_of(value)
