from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from tests.authn.issuer import Issuer, running_issuer, silent
from tests.authn.tokens import RSA, document
from ztproxy.authn.documents import (
    MAX_DOCUMENT_BYTES,
    DiscoveredDocument,
    DocumentError,
    Fetcher,
    FileDocument,
    GuardedResolver,
    UrlDocument,
)

LOOPBACK = Fetcher.trusting(None, allow_loopback_http=True, timeout_s=2)
STRICT = Fetcher.trusting(None)
_Result = TypeVar("_Result")


def with_issuer(talk: Callable[[Issuer], Awaitable[_Result]]) -> _Result:
    async def scene() -> _Result:
        async with running_issuer() as issuer:
            return await talk(issuer)

    return asyncio.run(scene())


def failing(talk: Callable[[Issuer], Awaitable[object]], word: str) -> None:
    with pytest.raises(DocumentError, match=word):
        with_issuer(talk)


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "https://login.example.com:8443/a/jwks?x=1",
        "https://10.0.0.1/jwks",
        "https://127.0.0.1/jwks",
        "http://127.0.0.1:9000/jwks",
        "http://127.8.8.8/jwks",
        "http://[::1]:9000/jwks",
    ],
)
def test_urls_that_may_be_fetched(url: str) -> None:
    LOOPBACK.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.example.com",
        "https://",
        "ftp://login.example.com/",
        "file:///etc/passwd",
        "http://login.example.com/",
        "http://localhost/",
        "http://10.0.0.1/",
        "http://127.0.0.1.attacker.example/",
        "https://user@login.example.com/",
        "https://user:word@login.example.com/",
        "https://login.example.com/#f",
        "https://login.example.com/a b",
        "https://login.example.com/\n",
        "https://lögin.example.com/",
        "https://login.example.com:port/",
        "https://[::1/",
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.170.2/",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://224.0.0.1/",
        "https://100.100.100.200/",
    ],
)
def test_urls_that_may_not(url: str) -> None:
    with pytest.raises(DocumentError):
        LOOPBACK.check(url)


def test_plain_http_is_off_unless_allowed() -> None:
    with pytest.raises(DocumentError, match="https"):
        UrlDocument(url="http://127.0.0.1:9/jwks", fetcher=STRICT)
    with pytest.raises(DocumentError, match="https"):
        DiscoveredDocument(issuer="http://127.0.0.1:9", fetcher=STRICT)


def test_tls_is_verified_and_names_count() -> None:
    assert STRICT.tls.verify_mode is ssl.CERT_REQUIRED
    assert STRICT.tls.check_hostname
    assert not STRICT.tls.hostname_checks_common_name
    assert STRICT.tls.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_ca_file_that_is_none_is_told_at_load(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        Fetcher.trusting(file)


def test_a_document_from_a_url() -> None:
    async def talk(issuer: Issuer) -> bytes:
        return await UrlDocument(url=issuer.url + "/jwks", fetcher=LOOPBACK).read()

    assert with_issuer(talk) == document(RSA)


def test_a_chunked_answer_is_taken_whole() -> None:
    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b'{"keys"', b": []}"):
            await response.write(part)
        return response

    async def talk(issuer: Issuer) -> bytes:
        issuer.answers["/jwks"] = chunked
        return await LOOPBACK.fetch(issuer.url + "/jwks")

    assert with_issuer(talk) == b'{"keys": []}'


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 401, 404, 500, 503])
def test_only_200_is_an_answer_and_redirects_lead_nowhere(status: int) -> None:
    async def talk(issuer: Issuer) -> None:
        issuer.answer("/a", b"", status=status, headers={"Location": issuer.url + "/jwks"})
        try:
            await LOOPBACK.fetch(issuer.url + "/a")
        finally:
            assert issuer.seen == ["/a"]

    failing(talk, str(status))


def test_the_size_limit_is_exact() -> None:
    async def talk(issuer: Issuer) -> int:
        issuer.answer("/a", b" " * MAX_DOCUMENT_BYTES)
        return len(await LOOPBACK.fetch(issuer.url + "/a"))

    async def over(issuer: Issuer) -> None:
        issuer.answer("/a", b" " * (MAX_DOCUMENT_BYTES + 1))
        await LOOPBACK.fetch(issuer.url + "/a")

    assert with_issuer(talk) == MAX_DOCUMENT_BYTES
    failing(over, "larger")


def test_an_endless_answer_is_cut_at_the_limit() -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1600):
            await response.write(b" " * 65536)
            sent += 65536
        return response

    async def talk(issuer: Issuer) -> None:
        issuer.answers["/a"] = endless
        await LOOPBACK.fetch(issuer.url + "/a")

    failing(talk, "larger")
    assert sent < 16 * MAX_DOCUMENT_BYTES


def test_compression_is_not_undone() -> None:
    async def talk(issuer: Issuer) -> None:
        issuer.answer("/a", gzip.compress(document(RSA)), headers={"Content-Encoding": "gzip"})
        await LOOPBACK.fetch(issuer.url + "/a")

    failing(talk, "coding")


def test_a_silent_issuer_is_left_after_the_timeout() -> None:
    async def talk(issuer: Issuer) -> None:
        issuer.answers["/a"] = silent(30)
        fetcher = Fetcher(tls=LOOPBACK.tls, allow_loopback_http=True, timeout_s=0.2)
        await fetcher.fetch(issuer.url + "/a")

    failing(talk, "longer than 0.2 s")


def test_a_closed_port_and_a_peer_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DocumentError, match="cannot be fetched"):
        asyncio.run(LOOPBACK.fetch(f"http://127.0.0.1:{port}/"))

    async def talk(issuer: Issuer) -> None:
        await LOOPBACK.fetch(issuer.url.replace("http:", "https:") + "/jwks")

    failing(talk, "cannot be fetched")


def discovery(issuer: Issuer, changes: dict[str, Any]) -> None:
    metadata = {"issuer": issuer.url, "jwks_uri": issuer.url + "/jwks", **changes}
    issuer.answer("/.well-known/openid-configuration", json.dumps(metadata).encode())


@pytest.mark.parametrize("path", ["", "/", "/realms/one"])
def test_discovery_leads_to_the_keys(path: str) -> None:
    async def talk(issuer: Issuer) -> bytes:
        name = issuer.url + path
        metadata = {"issuer": name, "jwks_uri": issuer.url + "/jwks"}
        issuer.answer(f"{path.rstrip('/')}/.well-known/openid-configuration", json.dumps(metadata).encode())
        return await DiscoveredDocument(issuer=name, fetcher=LOOPBACK).read()

    assert with_issuer(talk) == document(RSA)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"issuer": "https://attacker.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "no `jwks_uri`"),
        ({"jwks_uri": ["x"]}, "no `jwks_uri`"),
        ({"jwks_uri": "file:///etc/passwd"}, "needs a host"),
        ({"jwks_uri": "ftp://127.0.0.1/jwks"}, "https"),
        ({"jwks_uri": "http://login.example.com/jwks"}, "https"),
        ({"jwks_uri": "https://169.254.169.254/latest"}, "link-local"),
        ({"jwks_uri": "http://169.254.169.254/latest"}, "https"),
    ],
)
def test_discovery_is_not_followed_anywhere(changes: dict[str, Any], word: str) -> None:
    async def talk(issuer: Issuer) -> None:
        discovery(issuer, changes)
        try:
            await DiscoveredDocument(issuer=issuer.url, fetcher=LOOPBACK).read()
        finally:
            assert issuer.seen == ["/.well-known/openid-configuration"]

    failing(talk, word)


def test_discovery_that_is_no_strict_json() -> None:
    async def talk(issuer: Issuer) -> None:
        issuer.answer("/.well-known/openid-configuration", b"<html>")
        await DiscoveredDocument(issuer=issuer.url, fetcher=LOOPBACK).read()

    failing(talk, "not valid json")


def test_an_https_issuer_does_not_lead_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def fetch(_: Fetcher, url: str) -> bytes:
        asked.append(url)
        return b'{"issuer": "https://login.example.com", "jwks_uri": "http://127.0.0.1:9/jwks"}'

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    with pytest.raises(DocumentError, match="from https to http"):
        asyncio.run(DiscoveredDocument(issuer="https://login.example.com", fetcher=LOOPBACK).read())
    assert asked == ["https://login.example.com/.well-known/openid-configuration"]


def test_an_issuer_with_a_query_is_refused() -> None:
    with pytest.raises(DocumentError, match="query"):
        DiscoveredDocument(issuer="https://login.example.com/?tenant=1", fetcher=LOOPBACK)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1%lo", "::ffff:169.254.1.1", "0.0.0.0", "not-an-address"]
)
def test_a_name_that_leads_to_a_forbidden_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        resolver = GuardedResolver()

        async def resolve(*_: object) -> list[dict[str, object]]:
            return [{"host": "192.0.2.1"}, {"host": address}]

        monkeypatch.setattr(resolver._inner, "resolve", resolve)
        with pytest.raises(OSError, match="reserved"):
            await resolver.resolve("login.example.com", 443)
        await resolver.close()

    asyncio.run(scene())


def test_a_name_that_leads_to_good_addresses() -> None:
    async def scene() -> list[str]:
        return [str(result["host"]) for result in await GuardedResolver().resolve("localhost", 80, socket.AF_INET)]

    assert asyncio.run(scene()) == ["127.0.0.1"]


def test_how_often_each_kind_is_read(tmp_path: Path) -> None:
    url = "https://login.example.com"
    assert FileDocument(path=tmp_path).refresh_s == 5
    assert UrlDocument(url=url, fetcher=STRICT).refresh_s == 300
    assert DiscoveredDocument(issuer=url, fetcher=STRICT).refresh_s == 300


def test_a_document_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    source = FileDocument(path=file)
    with pytest.raises(DocumentError, match="cannot read"):
        asyncio.run(source.read())
    file.write_bytes(document(RSA))
    assert asyncio.run(source.read()) == document(RSA)
    file.write_bytes(b" " * MAX_DOCUMENT_BYTES)
    assert len(asyncio.run(source.read())) == MAX_DOCUMENT_BYTES
    file.write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(DocumentError, match="larger"):
        asyncio.run(source.read())
