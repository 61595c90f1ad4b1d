"""S14: a restriction that cannot be resolved, or is empty, refuses to load; it never silently does nothing.

Each case is a Deny (or a narrowing of an Allow) that a careless reader would skip, letting everyone in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.authz.requests import ROUTE_ARN, policies, request, statement
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.policy import GrantBinding, GrantMatch
from ztproxy.authz.source import FilePolicySource, RoutePolicy
from ztproxy.errors import ConfigError

RESTRICTIONS: dict[str, dict[str, Any]] = {
    "misspelt element": {"Conditions": {"Bool": {"aws:SecureTransport": "false"}}},
    "misspelt operator": {"Condition": {"StringEqual": {"aws:username": "eve"}}},
    "operator in another case": {"Condition": {"stringequals": {"aws:username": "eve"}}},
    "misspelt key": {"Condition": {"StringEquals": {"aws:usrname": "eve"}}},
    "misspelt key of ours": {"Condition": {"ForAnyValue:StringEquals": {"ztproxy:group": "eve"}}},
    "key of a service never asked": {"Condition": {"StringEquals": {"s3:prefix": "eve"}}},
    "key without namespace": {"Condition": {"StringEquals": {"username": "eve"}}},
    "no values": {"Condition": {"StringEquals": {"aws:username": []}}},
    "no value": {"Condition": {"StringEquals": {"aws:username": None}}},
    "no keys": {"Condition": {"StringEquals": {}}},
    "no operators": {"Condition": {}},
    "unreadable address": {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/99"}}},
    "unreadable date": {"Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}},
    "operator that cannot compare": {"Condition": {"StringLike": {"aws:SourceIp": "10.*"}}},
    "single-value operator on groups": {"Condition": {"StringEquals": {"ztproxy:groups": "eve"}}},
    "variable that cannot exist": {"Resource": "arn:aws:execute-api:eu-west-1:111122223333:orders/${aws:usrname}/*"},
    "no resources": {"Resource": []},
    "resource that is no ARN": {"Resource": "orders/*"},
    "no actions": {"Action": []},
    "action nobody asks": {"Action": "execute-api:Invok"},
    "no principals": {"Principal": {}},
    "empty principal": {"Principal": {"AWS": []}},
    "principal that names nobody": {"Principal": {"AWS": "eve"}},
    "pattern as a principal": {"Principal": {"AWS": "arn:aws:iam::111122223333:user/ev*"}},
    "provider of another account": {"Principal": {"Federated": "arn:aws:iam::444455556666:oidc-provider/x.example"}},
}


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_it_refuses_to_load(name: str) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": statement("Deny", **RESTRICTIONS[name])})
    with pytest.raises(ConfigError):
        parse_policy(text, file="p.json", kind="resource", route_arn=ROUTE_ARN)


@pytest.mark.parametrize("missing", ["Effect", "Principal", "Action", "Resource"])
def test_a_missing_element_never_means_all(missing: str) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": {k: v for k, v in statement().items() if k != missing}})
    with pytest.raises(ConfigError):
        parse_policy(text, file="p.json", kind="resource", route_arn=ROUTE_ARN)


def test_a_repeated_element_is_not_the_last_one_silently() -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": statement("Deny")})
    with pytest.raises(ConfigError):
        parse_policy(text.replace('"Effect"', '"Effect": "Allow", "Effect"'), file="p", kind="resource", route_arn=None)


def test_an_empty_grant_is_refused() -> None:
    with pytest.raises(ValueError, match="everyone"):
        GrantMatch()
    with pytest.raises(ValueError, match="empty text"):
        GrantMatch(group="")
    with pytest.raises(ValueError, match="without policies"):
        GrantBinding(match=GrantMatch(group="dev"), policies=())


def test_no_policy_at_all_denies() -> None:
    assert not evaluate(policies(), request()).allowed


def test_a_broken_file_never_replaces_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement(), statement("Deny")]}))
    source = FilePolicySource([RoutePolicy(route="orders", arn=ROUTE_ARN, path=file)], [])
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement(), statement("Deny", Action=[])]}))
    with pytest.raises(ConfigError):
        source.reload()
    assert not evaluate(source.current(), request()).allowed


def test_what_cannot_be_judged_at_request_time_denies() -> None:
    inside = {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    odd = request(network={"aws:sourceip": "nonsense"})
    assert not evaluate(policies([statement(), statement("Deny", Condition=inside)]), odd).allowed
    assert not evaluate(policies([statement(Condition=inside)]), odd).allowed
    mine = f"{ROUTE_ARN}/GET/${{aws:username}}/*"
    assert not evaluate(policies([statement(NotResource=mine)]), request()).allowed
    assert not evaluate(policies([statement(), statement("Deny", NotResource=mine)]), request()).allowed
