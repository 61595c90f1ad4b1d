"""One statement can demand the right certificate and the right token at once; half of it is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.pki import TestAuthority
from tests.fakes.proxy import ACCOUNT
from tests.fakes.signing import signature_of, signed
from tests.fakes.tokens import ISSUER
from tests.fakes.watch import WatchedHouse, refused, served

STATEMENT = {
    "Sid": "LaptopsOfDevelopers",
    "Effect": "Allow",
    "Principal": {"Federated": ISSUER},
    "Action": "execute-api:Invoke",
    "Resource": "execute-api:/prod/GET/orders/*",
    "Condition": {
        "ForAnyValue:StringEquals": {"ztproxy:groups": "dev"},
        "StringLike": {"ztproxy:SpiffeId": "spiffe://test.example/laptop/*"},
        "StringEquals": {"ztproxy:ClientCert/Authority": "staff"},
        "Bool": {"aws:MultiFactorAuthPresent": "true"},
    },
}
PIPELINE = {
    "Sid": "PipelineOnItsRunner",
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ci"},
    "Action": "execute-api:Invoke",
    "Resource": "execute-api:/prod/GET/orders/*",
    "Condition": {"StringEquals": {"ztproxy:SpiffeId": "spiffe://test.example/runner"}},
}
BYSTANDERS = {
    "Sid": "Bystanders",
    "Effect": "Allow",
    "Principal": "*",
    "Action": "execute-api:Invoke",
    "Resource": "execute-api:/prod/GET/bystander",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    folder = tmp_path_factory.mktemp("house")
    partner = TestAuthority(folder, "partner")

    def change(configuration: dict[str, Any]) -> None:
        configuration["policy"] = {"Version": "2012-10-17", "Statement": [STATEMENT, PIPELINE, BYSTANDERS]}
        configuration["routes"][0]["deny_detail"] = "full"
        clients = configuration["listeners"][0]["tls"]["client_certificates"]
        clients["authorities"].append({"name": "partner", "ca": f"file:{partner.path}"})

    house = WatchedHouse(folder, change=change)
    house.leaves["partner"] = partner.issue("laptop", uris=("spiffe://test.example/laptop/7",))
    house.leaves["laptop"] = house.staff.issue("laptop", uris=("spiffe://test.example/laptop/7",))
    house.leaves["runner"] = house.staff.issue("runner", uris=("spiffe://test.example/runner",))
    try:
        yield house.start()
    finally:
        house.close()


def test_the_right_pair_is_let_in(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        answer = house.ask_on(house.connect(house.leaves["laptop"]), house.request())
    assert answer.status == 200
    record = next(record for record in house.records("access.decided") if record["id"] == answer.value("x-ztproxy-id"))
    assert record["identity"]["subject"] == "bob"
    assert record["identity"]["method"] == "jwt+certificate"
    assert [statement["sid"] for statement in record["deciding"]] == ["LaptopsOfDevelopers"]


@pytest.mark.parametrize(
    ("claims", "key"),
    [({"groups": ["ops"]}, "ztproxy:groups"), ({"groups": None}, "ztproxy:groups"), ({"amr": ["pwd"]}, "aws:MultiF")],
)
def test_the_wrong_token_is_denied_whatever_the_certificate(
    house: WatchedHouse, claims: dict[str, Any], key: str
) -> None:
    with house.expecting(refused("authz.denied-implicit")):
        answer = house.ask_on(house.connect(house.leaves["laptop"]), house.request(token=house.tokens.token(**claims)))
    assert answer.status == 403
    assert any("LaptopsOfDevelopers" in reason and key in reason for reason in answer.json["reasons"])


@pytest.mark.parametrize("whose", ["bob", "runner", "partner"])
def test_the_wrong_certificate_is_denied_whatever_the_token(house: WatchedHouse, whose: str) -> None:
    """`partner` vouches for the very same SPIFFE ID and owns no trust domain, so it does not count."""
    with house.expecting(refused("authz.denied-implicit")):
        answer = house.ask_on(house.connect(house.leaves[whose]), house.request())
    assert answer.status == 403
    assert any("ztproxy:SpiffeId" in reason for reason in answer.json["reasons"])


def test_a_signature_and_a_certificate_are_a_pair_too(house: WatchedHouse) -> None:
    raw = signed()
    house.keep_secret(signature_of(raw))
    with house.expecting(*served(), refused("authz.denied-implicit"), forwarded=1):
        good = house.ask_on(house.connect(house.leaves["runner"]), raw)
        bad = house.ask_on(house.connect(house.leaves["laptop"]), raw)
    assert (good.status, bad.status) == (200, 403)


def test_one_token_on_two_certificates_at_once_is_two_callers(house: WatchedHouse) -> None:
    """The cache of verified tokens may not carry the certificate of one caller over to the other."""
    raw = house.request()
    right, wrong = house.connect(house.leaves["laptop"]), house.connect(house.bob)
    with house.expecting(*(*served(), refused("authz.denied-implicit")) * 3, forwarded=3):
        statuses = [connection.send(raw).answer().status for _ in range(3) for connection in (right, wrong)]
    right.close()
    wrong.close()
    assert statuses == [200, 403] * 3
