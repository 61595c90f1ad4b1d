"""Condition keys: what is known of them, and where their values come from."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.authz.requests import AT, request
from ztproxy.authz import context


@pytest.mark.parametrize(
    ("key", "name", "kind", "layer", "multivalued"),
    [
        ("aws:SourceIp", "aws:SourceIp", "ip", "network", False),
        ("AWS:sourcevpce", "aws:SourceVpce", "string", "network", False),
        ("aws:PrincipalTag/Team", "aws:PrincipalTag/", "any", "identity", False),
        ("ztproxy:Claim/a/b", "ztproxy:Claim/", "any", "identity", False),
        ("ztproxy:groups", "ztproxy:groups", "string", "request", True),
        ("ztproxy:ClientCert/DnsSan", "ztproxy:ClientCert/DnsSan", "string", "identity", True),
        ("aws:CurrentTime", "aws:CurrentTime", "date", "request", False),
        ("aws:UserAgent", "aws:UserAgent", "string", "ask", False),
        ("login.example.com:sub", "login.example.com:sub", "any", "identity", False),
        ("login.example.com:amr", "login.example.com:amr", "any", "identity", True),
        ("localhost:8080:sub", "localhost:8080:sub", "any", "identity", False),
        ("localhost:8080/realm:sub", "localhost:8080/realm:sub", "any", "identity", False),
        ("s3:prefix", "s3:prefix", "any", "ask", False),
    ],
)
def test_known_keys(key: str, name: str, kind: str, layer: str, multivalued: bool) -> None:
    known = context.describe(key)
    assert known is not None
    assert (known.name, known.type, known.layer, known.multivalued) == (name, kind, layer, multivalued)
    assert context.layer(key) == layer


@pytest.mark.parametrize(
    "key",
    ["SourceIp", ":x", "aws:", "aws:SourceIpp", "aws:PrincipalTag/", "ztproxy:ClientCert/Nonsense", "ztproxy:a:b", ""],
)
def test_keys_that_cannot_exist(key: str) -> None:
    assert context.describe(key) is None


def test_keys_of_other_services() -> None:
    foreign = ["s3:prefix", "dynamodb:Attributes", "s3:ExistingObjectTag/a"]
    ours = ["aws:SourceIp", "ztproxy:groups", "login.example.com:sub", "a.example/x:y", "rds-db:x"]
    assert all(context.of_other_service(key) for key in foreign)
    assert not any(context.of_other_service(key) for key in ours)


def test_suggestions() -> None:
    assert context.suggest("aws:SourceIPP") == "aws:SourceIp"
    assert context.suggest("ztproxy:group") == "ztproxy:groups"
    assert context.suggest("nothing:like-it") is None


def test_each_layer_is_read() -> None:
    subject = request(
        network={"aws:sourceip": "203.0.113.9"}, identity={"aws:username": "ada"}, ask={"aws:useragent": "curl"}
    )
    for key, value in (("aws:SourceIp", "203.0.113.9"), ("aws:username", "ada"), ("aws:UserAgent", "curl")):
        assert context.reader(key)(subject) == value
        assert context.reader(key)(request()) is None
    assert context.reader("s3:prefix")(request(ask={"s3:prefix": "x"})) == "x"
    # A name nobody knows is read from the ask, where nothing has it; `parse.py` never lets one through.
    assert context.reader("nobody")(subject) is None


def test_functions_of_the_request() -> None:
    subject = request(groups=("dev", "ops"))
    assert context.reader("ztproxy:groups")(subject) == ("dev", "ops")
    assert context.reader("ztproxy:groups")(request()) is None
    assert context.reader("aws:CurrentTime")(subject) == "2026-11-22T08:00:00+00:00"
    assert context.reader("aws:EpochTime")(subject) == str(int(AT.timestamp()))
    assert context.reader("aws:RequestedRegion")(subject) == "eu-west-1"
    assert context.reader("aws:RequestedRegion")(request(route_arn="arn:aws:s3:::bucket")) is None
    assert context.reader("aws:RequestedRegion")(request(route_arn="nonsense")) is None


@pytest.mark.parametrize(
    ("facts", "age"),
    [
        ({"aws:multifactorauthpresent": "true", "ztproxy:claim/auth_time": str(int(AT.timestamp()))}, "90"),
        ({"aws:multifactorauthpresent": "false", "ztproxy:claim/auth_time": str(int(AT.timestamp()))}, None),
        ({"ztproxy:claim/auth_time": str(int(AT.timestamp()))}, None),
        ({"aws:multifactorauthpresent": "true"}, None),
        ({"aws:multifactorauthpresent": "true", "ztproxy:claim/auth_time": "soon"}, None),
        ({"aws:multifactorauthpresent": "true", "ztproxy:claim/auth_time": ("1", "2")}, None),
    ],
)
def test_the_age_of_a_sign_in_is_known_or_absent(facts: dict[str, str | tuple[str, ...]], age: str | None) -> None:
    subject = request(identity=facts, at=AT + timedelta(seconds=90))
    assert context.reader("aws:MultiFactorAuthAge")(subject) == age


def test_network_facts_without_an_endpoint() -> None:
    facts = context.network_facts(peer="203.0.113.9", vpce_id=None, vpc_endpoints={}, secure=True)
    assert dict(facts) == {"aws:sourceip": "203.0.113.9", "aws:securetransport": "true"}


@pytest.mark.parametrize("known", [{"vpce-1": "vpc-1"}, {"vpce-1": None}, {}])
def test_through_an_endpoint_the_source_address_is_absent(known: dict[str, str | None]) -> None:
    facts = context.network_facts(peer="10.0.7.1", vpce_id="vpce-1", vpc_endpoints=known, secure=False)
    expected = {"aws:sourcevpce": "vpce-1", "aws:vpcsourceip": "10.0.7.1", "aws:securetransport": "false"}
    if known.get("vpce-1"):
        expected["aws:sourcevpc"] = "vpc-1"
    assert dict(facts) == expected


def test_every_fact_key_of_the_table_can_be_read() -> None:
    for key in context.KEYS.values():
        name = f"{key.name}x" if key.name.endswith("/") else key.name
        context.reader(name)(request())
        assert context.describe(name) is key
