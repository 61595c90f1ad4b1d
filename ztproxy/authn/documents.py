"""Where an issuer's key set document comes from: a file, a URL, or what discovery at the issuer names.

Nothing a token says leads here; addresses come from the configuration, and from the issuer's own discovery document
only after it named the same issuer (S22). A fetch takes one answer: status 200, no redirect, no content coding, at
most 1 MiB, all within `timeout_s`, TLS verified against the system's or the given CA file. Plain http only to a
loopback address and only where the configuration allows it. Link-local, metadata, unspecified and multicast addresses
are refused when the URL is read and again when a name has been resolved, for the second is what is dialled.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ztproxy.authn.jose import NotStrictJson, read_object

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"

_METADATA: Final = frozenset({"169.254.169.254", "fd00:ec2::254", "fd00:ec2::23", "100.100.100.200", "168.63.129.16"})


class DocumentError(Exception):
    """The document cannot be had, or may not be asked for there."""


class Document(Protocol):
    """A place to read a key set document from."""

    @property
    def refresh_s(self) -> float:
        """How often it is worth reading again."""
        ...

    async def read(self) -> bytes:
        """The document as it is now.

        Raises: `DocumentError`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDocument:
    """A key set in a local file."""

    path: Path
    refresh_s: float = 5.0
    """A file costs nothing to read, and who replaced it waits to see it taken."""

    async def read(self) -> bytes:
        """The file's content, at most 1 MiB."""
        try:
            return await asyncio.to_thread(self._read)
        except OSError as error:
            raise DocumentError(f"cannot read `{self.path}`: {error.strerror}") from error

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise DocumentError(f"`{self.path}` is larger than {MAX_DOCUMENT_BYTES} bytes")
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """How documents are fetched; one for each issuer."""

    tls: ssl.SSLContext
    allow_loopback_http: bool = False
    timeout_s: float = 10.0

    @classmethod
    def trusting(cls, ca_file: Path | None, *, allow_loopback_http: bool = False, timeout_s: float = 10.0) -> Fetcher:
        """A fetcher that trusts the given CA file, or the system's authorities.

        Raises: `OSError` and `ssl.SSLError` when the file cannot be used.
        """
        tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.hostname_checks_common_name = False
        tls.verify_flags |= ssl.VERIFY_X509_STRICT
        return cls(tls=tls, allow_loopback_http=allow_loopback_http, timeout_s=timeout_s)

    def check(self, url: str) -> SplitResult:
        """The parts of a URL that may be fetched.

        Raises: `DocumentError`.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise DocumentError(f"`{url}` is not a url") from error
        if not host or parts.username is not None or parts.fragment or not _is_visible(url):
            raise DocumentError(f"`{url}` needs a host and may have no user name, fragment or spaces")
        if parts.scheme not in {"https", "http"}:
            raise DocumentError(f"`{url}` is not an https url")
        address = _address(host)
        if parts.scheme == "http" and not (self.allow_loopback_http and address is not None and address.is_loopback):
            raise DocumentError(f"`{url}` must be https; plain http is for loopback addresses and only if allowed")
        if address is not None and _is_forbidden(address):
            raise DocumentError(f"`{url}` points at a link-local or reserved address")
        return parts

    async def fetch(self, url: str) -> bytes:
        """The body of one answer.

        Raises: `DocumentError`.
        """
        self.check(url)
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        ssl=self.tls, resolver=GuardedResolver(), force_close=True, use_dns_cache=False
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as session,
                session.get(
                    url,
                    allow_redirects=False,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                ) as answer,
            ):
                return await _body(answer, url)
        except TimeoutError as error:
            raise DocumentError(f"`{url}` took longer than {self.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DocumentError(f"`{url}` cannot be fetched: {type(error).__name__}") from error


async def _body(answer: aiohttp.ClientResponse, url: str) -> bytes:
    if answer.status != 200:
        raise DocumentError(f"`{url}` answered {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DocumentError(f"`{url}` answered in a content coding that was not asked for")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise DocumentError(f"`{url}` is larger than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlDocument:
    """A key set at a configured URL."""

    url: str
    fetcher: Fetcher
    refresh_s: float = 300.0

    def __post_init__(self) -> None:
        self.fetcher.check(self.url)

    async def read(self) -> bytes:
        """The key set as the URL answers now."""
        return await self.fetcher.fetch(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredDocument:
    """A key set at the `jwks_uri` of an issuer's discovery document."""

    issuer: str
    fetcher: Fetcher
    refresh_s: float = 300.0
    discovery_url: str = field(init=False)

    def __post_init__(self) -> None:
        parts = self.fetcher.check(self.issuer)
        if parts.query:
            raise DocumentError(f"the issuer `{self.issuer}` has a query")
        # Source: OpenID Connect Discovery §4.1 (a final slash is removed first).
        object.__setattr__(self, "discovery_url", self.issuer.removesuffix("/") + DISCOVERY_PATH)

    async def read(self) -> bytes:
        """The key set the issuer names now; discovery is asked each time, so that a move is followed."""
        try:
            metadata = read_object(await self.fetcher.fetch(self.discovery_url))
        except NotStrictJson as error:
            raise DocumentError(f"`{self.discovery_url}` is {error}") from error
        # INVARIANT: another issuer's metadata is never used. Source: OpenID Connect Discovery §4.3.
        if metadata.get("issuer") != self.issuer:
            raise DocumentError(f"`{self.discovery_url}` speaks for another issuer")
        jwks_uri = metadata.get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise DocumentError(f"`{self.discovery_url}` names no `jwks_uri`")
        if self.fetcher.check(jwks_uri).scheme == "http" and self.issuer.startswith("https:"):
            raise DocumentError(f"`{self.discovery_url}` leads from https to http")
        return await self.fetcher.fetch(jwks_uri)


class GuardedResolver(AbstractResolver):
    """The system's resolver, whose answers are checked before any is dialled."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a name; one that may not be dialled spoils them all.

        Raises: `OSError`.
        """
        results = await self._inner.resolve(host, port, family)
        for result in results:
            address = _address(result["host"])
            if address is None or _is_forbidden(address):
                raise OSError("the name leads to a link-local or reserved address")
        return results

    async def close(self) -> None:
        """Nothing is held."""


def _is_visible(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_forbidden(address: _Address) -> bool:
    return address.is_link_local or address.is_multicast or address.is_unspecified or str(address) in _METADATA
