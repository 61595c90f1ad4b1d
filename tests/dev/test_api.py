"""The sample shop: every operation, every refusal, and what it says it saw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

import pytest

from ztproxy.dev.api import MAX_BODY_BYTES, MAX_ORDERS, OrdersApi
from ztproxy.dev.loopback import LOOPBACK, serving

Call = tuple[str, str, bytes | None, Mapping[str, str]]


def call(method: str, path: str, body: bytes | None = None, **headers: str) -> Call:
    return method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}


def answers(api: OrdersApi, *calls: Call) -> list[tuple[int, dict[str, Any]]]:
    def send(port: int) -> list[tuple[int, dict[str, Any]]]:
        seen = []
        for method, path, body, headers in calls:
            connection = HTTPConnection(LOOPBACK, port, timeout=5)
            try:
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                assert response.headers["Content-Type"].startswith("application/json")
                text = response.read()
                assert text.endswith(b"}\n")
                seen.append((response.status, json.loads(text)))
            finally:
                connection.close()
        return seen

    async def run() -> list[tuple[int, dict[str, Any]]]:
        async with serving(api.application()) as port:
            return await asyncio.to_thread(send, port)

    return asyncio.run(run())


def test_an_order_is_read_changed_listed_and_deleted() -> None:
    api = OrdersApi()
    statuses = [
        (status, body.get("order") or body.get("deleted") or body.get("error"))
        for status, body in answers(
            api,
            call("GET", "/orders/42"),
            call("POST", "/orders/42", b'{"item": "rope", "id": "7"}'),
            call("POST", "/orders/new", b"{}"),
            call("DELETE", "/orders/42"),
            call("GET", "/orders/42"),
            call("DELETE", "/orders/42"),
        )
    ]
    assert statuses == [
        (200, {"id": "42", "item": "towel", "quantity": 2}),
        (200, {"id": "42", "item": "rope"}),
        (201, {"id": "new"}),
        (200, {"id": "42", "item": "rope"}),
        (404, "no such order"),
        (404, "no such order"),
    ]
    assert api.calls == 6
    ((status, body),) = answers(api, call("GET", "/orders"))
    assert (status, [order["id"] for order in body["orders"]]) == (200, ["7", "43", "new"])


def test_two_shops_do_not_share_orders() -> None:
    first, second = OrdersApi(), OrdersApi()
    answers(first, call("DELETE", "/orders/42"), call("POST", "/orders/7", b"{}"))
    assert "42" in second.orders
    assert second.orders["7"]["item"] == "letterpress"


def test_it_tells_which_caller_facts_came() -> None:
    ((_, body),) = answers(
        OrdersApi(),
        call(
            "GET",
            "/orders/42",
            X_Ztproxy_Subject="bob",
            X_Forwarded_For="192.0.2.1",
            Forwarded="for=192.0.2.1",
            X_Other="no",
        ),
    )
    assert body["seen"] == {
        "identity": {"x-ztproxy-subject": "bob", "x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"},
        "authorization": False,
    }


def test_it_tells_when_a_credential_came_through_without_showing_it() -> None:
    ((_, body),) = answers(OrdersApi(), call("GET", "/orders/42", Authorization="Bearer top-secret"))
    assert body["seen"]["authorization"] is True
    assert "top-secret" not in json.dumps(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b"[" * 30_000, b'"text"'],
    ids=["empty", "list", "cut", "binary", "deep", "text"],
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    ((status, answer),) = answers(OrdersApi(), call("POST", "/orders/1", body))
    assert (status, answer["error"]) == (400, "the body is no JSON object")


def test_bounds_hold() -> None:
    api = OrdersApi()
    for number in range(MAX_ORDERS):
        api.orders[str(number)] = {}
    statuses = [
        status
        for status, _ in answers(
            api,
            call("POST", "/orders/one-more", b"{}"),
            call("POST", "/orders/1", b"{}"),
            call("POST", "/orders/1", b'{"x":"' + b"y" * MAX_BODY_BYTES + b'"}'),
            call("GET", "/orders/" + "1" * 33),
            call("PUT", "/orders/1", b"{}"),
            call("GET", "/elsewhere"),
        )
    ]
    assert statuses == [409, 200, 413, 404, 405, 404]
