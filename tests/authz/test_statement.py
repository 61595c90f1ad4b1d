"""One compiled statement: its resource element, its index keys, and when time may turn it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.authz.requests import AT, ROUTE_ARN, policy, request, statement
from ztproxy.authz.statement import DEPTH, CompiledStatement

ORDER = f"{ROUTE_ARN}/GET/orders/42"
MINE = f"{ROUTE_ARN}/GET/orders/${{aws:username}}"


def compiled(effect: str = "Allow", *, version: str = "2012-10-17", **elements: Any) -> CompiledStatement:
    one = policy(statement(effect, **elements), version=version)
    return CompiledStatement(one, one.statements[0], 0, "digest")


@pytest.mark.parametrize(
    ("elements", "selects"),
    [
        ({"Resource": "*"}, True),
        ({"Resource": ["arn:aws:s3:::x", "*"]}, True),
        ({"Resource": ORDER}, True),
        ({"Resource": "execute-api:/prod/GET/*"}, True),
        ({"Resource": "execute-api:/prod/POST/*"}, False),
        ({"NotResource": "execute-api:/prod/POST/*"}, True),
        ({"NotResource": ["execute-api:/prod/GET/*", "arn:aws:s3:::x"]}, False),
        ({"NotResource": "*"}, False),
        ({"Resource": MINE}, True),
        ({"Resource": [MINE, "arn:aws:s3:::x"]}, True),
        ({"Resource": f"{ROUTE_ARN}/POST/${{aws:username}}"}, False),
        ({"NotResource": MINE}, False),
        ({"NotResource": f"{ROUTE_ARN}/POST/${{aws:username}}"}, True),
    ],
)
def test_resources(elements: dict[str, Any], selects: bool) -> None:
    one = compiled(**elements)
    subject = request(ORDER, identity={"aws:username": "42"})
    assert one.selects(subject) is selects
    assert one.holds(subject) is selects


@pytest.mark.parametrize(("effect", "selects"), [("Allow", False), ("Deny", True)])
def test_an_exception_that_cannot_be_resolved_fails_closed(effect: str, selects: bool) -> None:
    assert compiled(effect, NotResource=MINE).selects(request(ORDER)) is selects


def test_an_unresolved_resource_selects_nothing() -> None:
    assert not compiled("Allow", Resource=MINE).selects(request(ORDER))
    assert not compiled("Deny", Resource=MINE).selects(request(ORDER))


def test_before_2012_a_variable_is_text() -> None:
    assert not compiled(Resource=MINE, version="2008-10-17").selects(request(ORDER, identity={"aws:username": "42"}))


def test_actions() -> None:
    assert compiled(Action="execute-api:*").action("execute-api:Invoke")
    assert not compiled(NotAction="execute-api:*").action("execute-api:Invoke")
    assert compiled(NotAction="rds-db:*").action("execute-api:Invoke")


def test_all_conditions_must_hold() -> None:
    one = compiled(Condition={"StringEquals": {"aws:username": "ada"}, "Bool": {"aws:SecureTransport": "true"}})
    network, identity = {"aws:securetransport": "true"}, {"aws:username": "ada"}
    assert one.holds(request(network=network, identity=identity))
    assert not one.holds(request(network=network))
    assert not one.holds(request(identity=identity))


@pytest.mark.parametrize(
    ("elements", "keys"),
    [
        ({"Resource": "*"}, [""]),
        ({"NotResource": ORDER}, [""]),
        ({"Resource": ORDER}, [ORDER]),
        ({"Resource": "execute-api:/prod/GET/orders/*"}, [f"{ROUTE_ARN}/GET/orders"]),
        ({"Resource": "execute-api:/prod/GET/ord*"}, [f"{ROUTE_ARN}/GET"]),
        ({"Resource": "arn:aws:execute-api:*:1:x/y"}, [""]),
        ({"Resource": [MINE, ORDER]}, [f"{ROUTE_ARN}/GET/orders", ORDER]),
        ({"Resource": f"{ROUTE_ARN}/1/2/3/4/5/6/7/8/9/*"}, [f"{ROUTE_ARN}/1/2/3/4/5/6"]),
        ({"Resource": f"{ROUTE_ARN}/1/2/3/4/5/6"}, [f"{ROUTE_ARN}/1/2/3/4/5/6"]),
    ],
)
def test_where_a_statement_is_filed(elements: dict[str, Any], keys: list[str]) -> None:
    assert compiled(**elements).bucket_keys() == keys
    assert all(key.count("/") < DEPTH for key in keys)


def test_what_time_may_turn() -> None:
    second = 1_000_000
    assert compiled(Condition={"Null": {"aws:CurrentTime": "false"}}).thresholds == ()
    assert compiled(Condition={"StringEquals": {"aws:username": "ada"}}).thresholds == ()
    current = compiled(Condition={"DateLessThan": {"aws:CurrentTime": ["2026-11-22T08:00:00Z", "0"]}})
    assert current.thresholds == ((False, int(AT.timestamp()) * second), (False, 0))
    epoch = compiled(Condition={"DateGreaterThan": {"aws:EpochTime": "60"}})
    assert epoch.thresholds == ((False, 60 * second), (False, 61 * second))
    age = compiled(Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": "1.5"}})
    assert age.thresholds == ((True, 1_500_000), (True, 2_500_000))
    assert current.holds(request(at=AT - timedelta(seconds=1)))
    assert not current.holds(request(at=AT))
