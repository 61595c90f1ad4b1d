"""Requests and policies for the tests of this room: plain makers, no mocks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ztproxy.authz.index import build_policy_set
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.policy import GrantBinding, GrantMatch, Policy, PolicySet
from ztproxy.types import AccessRequest, Ask, AuthenticationRule, Identity, NetworkContext, Route

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ROUTE_ARN = "arn:aws:execute-api:eu-west-1:111122223333:orders/prod"
ISSUER = "https://login.example.com"
FEDERATED = {"Federated": ISSUER}

_Facts = Mapping[str, str | tuple[str, ...]]


def request(
    resource: str = f"{ROUTE_ARN}/GET/orders/42",
    *,
    action: str = "execute-api:Invoke",
    principals: tuple[str, ...] = (f"Federated:{ISSUER}",),
    groups: tuple[str, ...] = (),
    account: str | None = None,
    kind: str = "jwt",
    subject: str = "ada@example.com",
    issuer: str = ISSUER,
    network: _Facts | None = None,
    identity: _Facts | None = None,
    ask: _Facts | None = None,
    route: str = "orders",
    route_arn: str = ROUTE_ARN,
    route_account: str = "111122223333",
    at: datetime = AT,
    authenticated_at: datetime = AT,
    path: str = "/orders/42",
) -> AccessRequest:
    """An access request; by default ada, by token, reading order 42."""
    return AccessRequest(
        id="r1",
        at=at,
        network=NetworkContext(listener="edge", peer="203.0.113.9", peer_port=4000, facts=network or {}),
        identity=Identity(
            subject=subject,
            kind=kind,
            issuer=issuer,
            method=kind,
            authenticated_at=authenticated_at,
            expires_at=AT.replace(year=2027),
            groups=groups,
            account=account,
            principals=principals,
            facts=identity or {},
        ),
        route=Route(
            name=route,
            host="api.example.com",
            path="/**",
            arn=route_arn,
            account=route_account,
            upstream="http://127.0.0.1:9000",
            authenticate=AuthenticationRule(),
        ),
        ask=Ask(
            action=action, host="api.example.com", path=path, method="GET", resource="GET/orders/42", facts=ask or {}
        ),
        resource=resource,
    )


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    """A statement for a resource policy; elements given as `Action=...` replace the defaults."""
    made = {"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": "*", **elements}
    for name in ("Principal", "Action", "Resource"):
        if f"Not{name}" in elements:
            del made[name]
    return {name: value for name, value in made.items() if value is not None}


def policy(*statements: Mapping[str, Any], kind: Any = "resource", version: str = "2012-10-17") -> Policy:
    """A policy parsed from statements."""
    text = json.dumps({"Version": version, "Statement": list(statements)})
    return parse_policy(text, file=f"{kind}.json", kind=kind, route_arn=ROUTE_ARN)


def policies(
    resource: Sequence[Mapping[str, Any]] = (),
    identity: Sequence[Mapping[str, Any]] = (),
    *,
    match: GrantMatch | None = None,
) -> PolicySet:
    """A set with one route, `orders`, and one grant, by default for ada."""
    bound = {"orders": policy(*resource)} if resource else {}
    grants = []
    if identity:
        granted = policy(*({k: v for k, v in one.items() if k != "Principal"} for one in identity), kind="identity")
        grants.append(GrantBinding(match=match or GrantMatch(subject="ada@example.com"), policies=(granted,)))
    return build_policy_set(bound, grants)
