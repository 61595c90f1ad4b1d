"""S05: no `Connection` option of the caller's takes away a field that the proxy adds or judges by."""

from __future__ import annotations

import pytest

from tests.fakes.watch import WatchedHouse, refused, served

PROTECTED = [
    *(
        "X-Ztproxy-Subject",
        "x-ztproxy-groups",
        "X_ZTPROXY_SUBJECT",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "Forwarded",
    ),
    *(
        "X-Real-IP",
        "Host",
        "HOST",
        "Content-Length",
        "content_length",
        "Authorization",
        "Expect",
        "Cookie",
        "X-Amz-Date",
    ),
]


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize("form", ["{}", "close, {}", "keep-alive,{} ,x-other", "\t{}\t"])
def test_a_protected_name_is_refused(house: WatchedHouse, name: str, form: str) -> None:
    with house.expecting(refused("protocol.hop")):
        answer = house.ask("GET /orders", f"Connection: {form.format(name)}")
    assert (answer.status, answer.json["code"]) == (400, "protocol.hop")


def test_two_fields_are_one_list(house: WatchedHouse) -> None:
    with house.expecting(refused("protocol.hop")):
        assert house.ask("GET /orders", "Connection: x-other", "Connection: x-ztproxy-subject").status == 400


def test_what_it_may_name_goes_and_ours_stays(house: WatchedHouse) -> None:
    fields = ("Connection: x-hop, keep-alive", "X-Hop: 1", "X_Hop: 2", "Keep-Alive: 5", "TE: trailers", "X-Kept: 3")
    with house.expecting(*served(), forwarded=1):
        assert house.ask("GET /orders", *fields, "Upgrade: websocket", "Proxy-Authorization: Basic eHg=").status == 200
    request = house.upstream.requests[-2]
    gone = (b"x-hop", b"x_hop", b"keep-alive", b"te", b"upgrade", b"connection", b"proxy-authorization")
    assert [name for name in gone if request.values(name)] == []
    assert request.values(b"x-kept") == [b"3"]
    assert request.values(b"x-ztproxy-subject") == [b"bob"]
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
