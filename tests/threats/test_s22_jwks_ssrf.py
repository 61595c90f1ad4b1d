"""S22: key fetching as a way to make the proxy send requests. Addresses come from the configuration or the issuer's own
discovery, redirects lead nowhere, link-local is never dialled, and invented key ids cost the issuer nothing."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import ThreadedResolver
from aiohttp.abc import ResolveResult

from tests.authn.issuer import Issuer, running_issuer
from tests.authn.tokens import ACCOUNT, AUDIENCE, NETWORK, NOW, RSA, bearer, claims, document, token
from ztproxy.authn import documents
from ztproxy.authn.bearer import JwtAuthenticator
from ztproxy.authn.claims import ClaimMapping
from ztproxy.authn.documents import DiscoveredDocument, DocumentError, Fetcher, UrlDocument
from ztproxy.authn.jwks import JwksSource
from ztproxy.errors import Unauthenticated

FETCHER = Fetcher.trusting(None, allow_loopback_http=True, timeout_s=2)


def test_a_token_leads_to_no_request_but_the_configured_one() -> None:
    async def main() -> None:
        async with running_issuer() as issuer, running_issuer() as attacker, asyncio.TaskGroup() as group:
            source = JwksSource(UrlDocument(url=issuer.url + "/jwks", fetcher=FETCHER), spawn=group.create_task)
            corp = JwtAuthenticator(
                name="corp",
                issuer=issuer.url,
                audiences=[AUDIENCE],
                algorithms=["RS256"],
                leeway_s=60,
                claims=ClaimMapping(),
                keys=source,
                proxy_account=ACCOUNT,
            )
            good = claims(iss=issuer.url)
            assert (await corp.identify(bearer(token(good)), NETWORK, NOW)).subject == "ada"
            for name in ("jku", "x5u", "jwks_uri"):
                text = token(good, header={name: attacker.url + "/jwks"})
                with pytest.raises(Unauthenticated):
                    await corp.identify(bearer(text), NETWORK, NOW)
            for payload in (claims(iss=attacker.url), {**good, "jku": attacker.url, "jwks_uri": attacker.url}):
                evidence = bearer(token(payload, header={"kid": attacker.url + "/jwks"}))
                with pytest.raises(Unauthenticated):
                    await corp.identify(evidence, NETWORK, NOW)
            assert attacker.seen == []
            assert issuer.seen == ["/jwks"] * 2  # the first, and one for all unknown key ids

    asyncio.run(main())


def test_invented_key_ids_are_asked_for_once() -> None:
    async def main() -> None:
        async with running_issuer() as issuer, asyncio.TaskGroup() as group:
            source = JwksSource(UrlDocument(url=issuer.url + "/jwks", fetcher=FETCHER), spawn=group.create_task)
            await source.refresh()
            async with asyncio.TaskGroup() as askers:
                for number in range(200):
                    askers.create_task(source.keys(f"invented-{number}"))
            assert len(issuer.seen) == 2

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_lead_nowhere(status: int) -> None:
    async def main(discovered: bool) -> None:
        async with running_issuer() as issuer, running_issuer() as inside:
            path = documents.DISCOVERY_PATH if discovered else "/moved"
            issuer.answer(path, b"", status=status, headers={"Location": inside.url + "/jwks"})
            source = (
                DiscoveredDocument(issuer=issuer.url, fetcher=FETCHER)
                if discovered
                else UrlDocument(url=issuer.url + "/moved", fetcher=FETCHER)
            )
            with pytest.raises(DocumentError):
                await source.read()
            assert (len(issuer.seen), inside.seen) == (1, [])

    for discovered in (True, False):
        asyncio.run(main(discovered))


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "https://169.254.169.254/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[fe80::1]/",
        "http://10.0.0.1/jwks",
        "http://login.example.com/jwks",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//attacker.example/jwks",
    ],
)
def test_targets_refused_whoever_names_them(target: str) -> None:
    with pytest.raises(DocumentError):
        UrlDocument(url=target, fetcher=FETCHER)

    async def main() -> list[str]:
        async with running_issuer() as issuer:
            metadata = {"issuer": issuer.url, "jwks_uri": target}
            issuer.answer(documents.DISCOVERY_PATH, json.dumps(metadata).encode())
            with pytest.raises(DocumentError):
                await DiscoveredDocument(issuer=issuer.url, fetcher=FETCHER).read()
            return issuer.seen

    assert asyncio.run(main()) == [documents.DISCOVERY_PATH]


@pytest.mark.parametrize("forbidden", [True, False])
def test_a_name_that_resolves_to_a_forbidden_address_is_not_dialled(
    forbidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL looks fine; its name leads inside. A loopback listener plays the forbidden address, so that this test
    dials nothing else even with the defence gone; the other half shows that the listener would have been reached."""
    dialled: list[object] = []

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def main() -> None:
        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            dialled.append(writer.get_extra_info("peername"))
            writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(DocumentError, match="cannot be fetched"):
                await FETCHER.fetch(f"https://login.example.com:{port}/jwks")

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    if forbidden:
        monkeypatch.setattr(documents, "_METADATA", frozenset({"127.0.0.1"}))
    asyncio.run(main())
    assert bool(dialled) is not forbidden


def test_another_issuers_discovery_is_not_followed() -> None:
    async def main() -> Issuer:
        async with running_issuer() as issuer:
            metadata = {"issuer": issuer.url + "/other", "jwks_uri": issuer.url + "/jwks"}
            issuer.answer(documents.DISCOVERY_PATH, json.dumps(metadata).encode())
            with pytest.raises(DocumentError, match="another issuer"):
                await DiscoveredDocument(issuer=issuer.url, fetcher=FETCHER).read()
            return issuer

    assert "/jwks" not in asyncio.run(main()).seen


def test_stale_keys_end() -> None:
    async def main() -> None:
        now = 0.0
        async with running_issuer() as issuer, asyncio.TaskGroup() as group:
            source = JwksSource(
                UrlDocument(url=issuer.url + "/jwks", fetcher=FETCHER), spawn=group.create_task, clock=lambda: now
            )
            assert await source.refresh()
            issuer.answer("/jwks", document(RSA), status=500)
            now = 86_399.0
            assert not await source.refresh()
            assert source.current() is not None
            now = 86_400.0
            assert source.current() is None
            with pytest.raises(Unauthenticated) as caught:
                await source.keys("rsa-1")
            assert caught.value.status == 503

    asyncio.run(main())
