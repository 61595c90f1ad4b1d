"""The sample API "orders": what stands behind the proxy in the demo.

It authenticates nobody and keeps its orders in memory. Every answer says which caller facts arrived, so that people
see what the proxy adds to a request and what it keeps to itself: the caller's own `Authorization` never comes through.
"""

from __future__ import annotations

import json
from json import JSONDecodeError
from typing import Any, Final

from aiohttp import web

MAX_BODY_BYTES: Final = 64 * 1024
MAX_ORDERS: Final = 1000
_ECHOED_PREFIXES: Final = ("x-ztproxy-", "x-forwarded-")
_ECHOED: Final = frozenset({"forwarded", "client-cert", "via"})

_SAMPLE: Final[dict[str, dict[str, Any]]] = {
    "7": {"id": "7", "item": "letterpress", "quantity": 1, "note": "under legal hold"},
    "42": {"id": "42", "item": "towel", "quantity": 2},
    "43": {"id": "43", "item": "tea", "quantity": 12},
}


class OrdersApi:
    """The sample API; one instance is one shop."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {key: dict(order) for key, order in _SAMPLE.items()}
        self.calls = 0
        """Requests that reached this API, whatever became of them."""

    def application(self) -> web.Application:
        """The aiohttp application to serve."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._count])
        one = r"/orders/{id:[A-Za-z0-9-]{1,32}}"
        app.add_routes(
            [
                web.get("/orders", self._list),
                web.get(one, self._show),
                web.post(one, self._put),
                web.delete(one, self._delete),
            ]
        )
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls += 1
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as refusal:
            return _answer(request, refusal.status, {"error": refusal.reason})
        return response

    async def _list(self, request: web.Request) -> web.Response:
        return _answer(request, 200, {"orders": list(self.orders.values())})

    async def _show(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            raise web.HTTPNotFound(reason="no such order")
        return _answer(request, 200, {"order": order})

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        try:
            fields = await request.json()
        except (JSONDecodeError, UnicodeDecodeError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise web.HTTPBadRequest(reason="the body is no JSON object")
        if name not in self.orders and len(self.orders) >= MAX_ORDERS:
            raise web.HTTPConflict(reason="the shop is full")
        created = name not in self.orders
        self.orders[name] = {**fields, "id": name}
        return _answer(request, 201 if created else 200, {"order": self.orders[name]})

    async def _delete(self, request: web.Request) -> web.Response:
        order = self.orders.pop(request.match_info["id"], None)
        if order is None:
            raise web.HTTPNotFound(reason="no such order")
        return _answer(request, 200, {"deleted": order})


def _answer(request: web.Request, status: int, body: dict[str, Any]) -> web.Response:
    seen = {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower().startswith(_ECHOED_PREFIXES) or name.lower() in _ECHOED
    }
    body = {**body, "seen": {"identity": seen, "authorization": "Authorization" in request.headers}}
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")
