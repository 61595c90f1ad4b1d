"""S03: where a caller is comes from socket, TLS and PROXY header; what it says about itself changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.tokens import ISSUER
from tests.fakes.watch import WatchedHouse, refused, served

PARTNER = "203.0.113.9"
CLAIMS = [
    f"X-Forwarded-For: {PARTNER}",
    f"X-Forwarded-For: {PARTNER}, 127.0.0.1",
    f"Forwarded: for={PARTNER};host=admin.example;proto=http",
    f"X-Real-IP: {PARTNER}",
    f"True-Client-IP: {PARTNER}",
    f"CF-Connecting-IP: {PARTNER}",
    f"X-Client-IP: {PARTNER}",
    f"X-Cluster-Client-IP: {PARTNER}",
    f"Fastly-Client-IP: {PARTNER}",
    f"x_forwarded_for: {PARTNER}",
    f"X.Forwarded.For: {PARTNER}",
    "X-Forwarded-Host: admin.example",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Port: 80",
    "X-Forwarded-Prefix: /admin",
    "X-Forwarded-Uri: /partner",
    "X-Forwarded-Method: DELETE",
    "X-Original-URL: /partner",
    "X-Original-URI: /partner",
    "X-Rewrite-URL: /partner",
    "X-Host: admin.example",
    "X-HTTP-Host-Override: admin.example",
    "X-HTTP-Method-Override: DELETE",
    "X-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
]


def allow(path: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {
        "Sid": path,
        "Effect": "Allow",
        "Principal": {"Federated": ISSUER},
        "Action": "execute-api:Invoke",
        "Resource": f"execute-api:/prod/GET/{path}",
        "Condition": condition,
    }


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        configuration["policy"] = {
            "Version": "2012-10-17",
            "Statement": [
                allow("partner", {"IpAddress": {"aws:SourceIp": f"{PARTNER}/32"}}),
                allow("here", {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}, "Bool": {"aws:SecureTransport": "true"}}),
                allow("bystander", {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}}),
            ],
        }

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_claim_moves_the_decision(house: WatchedHouse, claim: str) -> None:
    with house.expecting(refused("authz.denied-implicit"), *served(), forwarded=1):
        assert house.ask("GET /partner", claim).status == 403
        assert house.ask("GET /here", claim).status == 200


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_upstream_reads_facts_and_no_claim(house: WatchedHouse, claim: str) -> None:
    assert house.ask("GET /here", claim).status == 200
    request = house.upstream.requests[-1]
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert request.values(b"x-forwarded-proto") == [b"https"]
    assert request.values(b"x-forwarded-host") == [b"localhost"]
    assert request.values(b"forwarded") == [b'for=127.0.0.1;host="localhost";proto=https']
    assert claim.encode().lower() not in request.head.lower().split(b"\r\n")
    assert PARTNER.encode() not in request.head


def test_the_record_reads_facts_and_no_claim(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        house.ask("GET /here", *CLAIMS)
    record = house.records("access.decided")[-2]
    assert (record["network"]["peer"], record["host"], record["path"], record["method"]) == (
        "127.0.0.1",
        "localhost",
        "/here",
        "GET",
    )
