"""A real HTTP server on a loopback port that plays an OIDC issuer, and misbehaves on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.authn.tokens import RSA, document

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Issuer:
    """Its answers can be replaced by path; every request is counted."""

    url: str = ""
    answers: dict[str, Handler] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def answer(self, path: str, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        async def respond(_: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.answers[path] = respond

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request.path)
        handler = self.answers.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)


@asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.answer("/jwks", document(RSA))
    runner = web.ServerRunner(web.Server(issuer.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


def silent(seconds: float) -> Handler:
    async def respond(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(body=document(RSA))

    return respond
