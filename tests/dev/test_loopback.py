"""An application is reachable on loopback alone, while its context lasts and no longer."""

from __future__ import annotations

import asyncio
import socket
from http.client import HTTPConnection

import pytest
from aiohttp import web

from ztproxy.dev.loopback import LOOPBACK, serving


def app() -> web.Application:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.add_routes([web.get("/", hello)])
    return application


def get(port: int) -> bytes:
    connection = HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def test_it_answers_while_the_context_lasts() -> None:
    async def run() -> int:
        async with serving(app()) as port:
            assert await asyncio.to_thread(get, port) == b"hello"
        return port

    port = asyncio.run(run())
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_taken_port_is_an_error() -> None:
    async def run(port: int) -> None:
        async with serving(app(), port):
            raise AssertionError("it was served")

    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            asyncio.run(run(taken.getsockname()[1]))
