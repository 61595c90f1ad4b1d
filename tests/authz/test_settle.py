"""Settled conditions: the same answers, for as long as connection and identity are the very same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.authz.requests import FEDERATED, ROUTE_ARN, policies, request, statement
from ztproxy.authz import settle
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.settle import is_standing
from ztproxy.types import AccessRequest, Effect


def again(first: AccessRequest, **changes: Any) -> AccessRequest:
    """A further request of the same caller on the same connection."""
    return first._replace(**changes)


@pytest.mark.parametrize(
    ("key", "values", "standing"),
    [
        ("aws:SourceIp", ("10.0.0.0/8",), True),
        ("ztproxy:Claim/team", ("a",), True),
        ("login.example.com:sub", ("a",), True),
        ("ztproxy:groups", ("dev",), True),
        ("aws:RequestedRegion", ("eu-west-1",), True),
        ("aws:CurrentTime", ("2026-11-22T00:00:00Z",), False),
        ("aws:UserAgent", ("curl/*",), False),
        ("aws:SourceIp", ("${aws:UserAgent}",), False),
    ],
)
def test_what_only_connection_and_identity_can_turn(key: str, values: tuple[str, ...], standing: bool) -> None:
    assert is_standing(key, values) is standing


def test_repeated_requests_get_the_answer_of_the_first() -> None:
    set_ = policies(
        [
            statement(Sid="other-team", Condition={"ForAnyValue:StringEquals": {"ztproxy:groups": "ops"}}),
            statement(
                Sid="readers",
                Principal=FEDERATED,
                Resource=f"{ROUTE_ARN}/GET/*",
                Condition={
                    "ForAnyValue:StringEquals": {"ztproxy:groups": "dev"},
                    "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                },
            ),
            statement(
                "Deny",
                Sid="no-scripts",
                Condition={"StringLike": {"aws:UserAgent": "evil*"}, "Bool": {"aws:SecureTransport": "true"}},
            ),
        ]
    )
    first = request(groups=("dev",), network={"aws:sourceip": "10.1.2.3", "aws:securetransport": "true"})
    for _ in range(3):
        assert evaluate(set_, first).effect is Effect.ALLOW
        written = again(first, resource=f"{ROUTE_ARN}/POST/orders")
        assert evaluate(set_, written).effect is Effect.IMPLICIT_DENY
        scripted = again(first, ask=first.ask._replace(facts={"aws:useragent": "evil/1"}))
        assert evaluate(set_, scripted).effect is Effect.EXPLICIT_DENY


def test_another_connection_or_identity_is_judged_anew() -> None:
    set_ = policies([statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})])
    inside = request(network={"aws:sourceip": "10.1.2.3"})
    outside = request(network={"aws:sourceip": "203.0.113.9"})
    for _ in range(3):
        assert evaluate(set_, inside).effect is Effect.ALLOW
        assert evaluate(set_, inside._replace(network=outside.network)).effect is Effect.IMPLICIT_DENY
        assert evaluate(set_, outside._replace(identity=inside.identity)).effect is Effect.IMPLICIT_DENY


def test_a_condition_on_time_is_asked_every_time() -> None:
    set_ = policies([statement(Condition={"DateLessThan": {"aws:CurrentTime": "2026-11-22T09:00:00Z"}})])
    early = request()
    late = again(early, at=early.at.replace(hour=10))
    for _ in range(3):
        assert evaluate(set_, early).effect is Effect.ALLOW
        assert evaluate(set_, late).effect is Effect.IMPLICIT_DENY


@pytest.mark.parametrize("limit", ["_LARGEST_SETTLED", "_MOST_SETTLED"])
def test_what_is_remembered_is_bounded(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, limit, 1)
    set_ = policies([statement(Resource=f"{ROUTE_ARN}/GET/{name}") for name in ("a", "b")])
    callers = [request(f"{ROUTE_ARN}/GET/a"), request(f"{ROUTE_ARN}/GET/b", subject="bob@example.com")]
    for _ in range(3):
        for caller in callers:
            assert evaluate(set_, caller).effect is Effect.ALLOW
    assert len(set_.index.settled._known) <= (1 if limit == "_MOST_SETTLED" else 2)
