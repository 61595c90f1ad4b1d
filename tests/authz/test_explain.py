"""Near misses in order of nearness, and what a refused caller may read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.authz.requests import FEDERATED, ROUTE_ARN, policies, request, statement
from ztproxy.authz import explain
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.explain import full, reason
from ztproxy.types import AccessRequest, Decision, Effect, NearMiss, StatementRef

ELSEWHERE = {"Federated": "https://other.example.com"}
OFFICE = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}


def decided(*statements: dict[str, Any], subject: AccessRequest | None = None) -> Decision:
    return evaluate(policies(statements), subject or request(network={"aws:sourceip": "203.0.113.9"}))


def test_the_nearest_comes_first() -> None:
    decision = decided(
        statement(Sid="principal", Principal=ELSEWHERE),
        statement(Sid="action", Action="rds-db:connect"),
        statement(Sid="resource", Resource="execute-api:/prod/POST/*"),
        statement(Sid="two-conditions", Condition={**OFFICE, **MFA}),
        statement(Sid="one-condition", Condition=OFFICE),
        statement("Deny", Sid="deny", Resource="execute-api:/prod/POST/*"),
        statement("Deny", Sid="deny-elsewhere", Principal=ELSEWHERE),
    )
    assert [(miss.statement.sid, miss.element) for miss in decision.misses] == [
        ("one-condition", "Condition"),
        ("two-conditions", "Condition"),
        ("resource", "Resource"),
        ("action", "Action"),
        ("principal", "Principal"),
    ]
    near = decision.misses[0]
    assert (near.key, near.operator, near.expected, near.seen) == (
        "aws:SourceIp",
        "IpAddress",
        ("10.0.0.0/8",),
        ("203.0.113.9",),
    )


def test_what_was_seen() -> None:
    groups = {"ForAnyValue:StringEquals": {"ztproxy:groups": "ops"}}
    many = decided(statement(Condition=groups), subject=request(groups=("a", "b", "c", "d", "e", "f")))
    assert many.misses[0].seen == ("a", "b", "c", "d", "e")
    assert decided(statement(Condition=groups), subject=request()).misses[0].seen is None
    resource = decided(statement(Resource="execute-api:/prod/POST/*")).misses[0]
    assert resource.seen == (f"{ROUTE_ARN}/GET/orders/42",)
    anonymous = request(kind="anonymous", principals=())
    assert decided(statement(Principal=FEDERATED), subject=anonymous).misses[0].seen == ("anonymous",)


def test_no_more_than_five_and_a_bounded_search(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [statement(Resource=f"execute-api:/prod/POST/{i}") for i in range(300)]
    assert len(decided(*many).misses) == 5
    monkeypatch.setattr(explain, "_LOOKED_AT", 1)
    assert len(decided(*many[:30]).misses) == 2
    others = [statement(Principal=ELSEWHERE) for _ in range(30)]
    assert len(decided(*others).misses) == 1


def test_a_statement_that_holds_is_no_miss() -> None:
    account = statement(Principal={"AWS": "111122223333"})
    user = request(principals=("AWS:arn:aws:iam::111122223333:user/ada",), account="111122223333")
    decision = decided(account, subject=user)
    assert decision.misses == ()
    assert reason(decision) == "one side allows this, but the identity policy must allow it too"
    assert full(decision)[2] == "that allows it, but both the identity and the resource side must"


def test_an_explicit_deny_has_no_misses() -> None:
    decision = decided(statement("Deny", Sid="Frozen"), statement(Condition=OFFICE))
    assert decision.misses == ()
    assert reason(decision) == "statement `Frozen` denies this"
    assert full(decision) == ["explicit deny", "decided by Frozen (resource.json:1), resource policy"]
    assert reason(decided(statement("Deny"))) == "a statement denies this"
    assert reason(Decision(effect=Effect.EXPLICIT_DENY)) == "a statement denies this"


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        ([], "no statement allows this"),
        (
            [statement(Sid="Write", Resource="execute-api:/prod/POST/orders/*")],
            "no statement allows GET on `/orders/42`; the nearest, `Write`, is for other methods",
        ),
        (
            [statement(Sid="Other", Resource="execute-api:/prod/GET/other/*")],
            "no statement allows GET on `/orders/42`; the nearest, `Other`, is for other resources",
        ),
        (
            [statement(Sid="Any", Resource="execute-api:/prod/*/other/*")],
            "no statement allows GET on `/orders/42`; the nearest, `Any`, is for other resources",
        ),
        (
            [statement(Resource=["arn:aws:s3:::x", "execute-api:/prod/POST/*"])],
            "no statement allows GET on `/orders/42`; the nearest statement is for other resources",
        ),
        (
            [statement(Sid="Db", Action="rds-db:connect")],
            "no statement allows `execute-api:Invoke`; the nearest, `Db`, is for other actions",
        ),
        (
            [statement(Sid="Them", Principal=ELSEWHERE)],
            "no statement allows this; the nearest, `Them`, is for other callers",
        ),
        (
            [statement(Sid="Office", Condition=OFFICE)],
            "no statement allows this; the nearest, `Office`, does not accept the value of `aws:SourceIp`",
        ),
        (
            [statement(Sid="Mfa", Condition=MFA)],
            "no statement allows this; the nearest, `Mfa`, also needs `aws:MultiFactorAuthPresent`, "
            "which this request does not have",
        ),
    ],
)
def test_the_sentence(statements: list[dict[str, Any]], sentence: str) -> None:
    assert reason(decided(*statements)) == sentence


def test_the_sentence_leaks_neither_files_nor_what_is_expected() -> None:
    groups = {"ForAnyValue:StringEquals": {"ztproxy:groups": "secret-project"}}
    said = reason(decided(statement(Sid="A", Condition=groups), statement(Sid="B", Condition=OFFICE)))
    assert "secret-project" not in said
    assert "10.0.0.0" not in said
    assert ".json" not in said


def test_resources_that_are_no_request_of_an_api() -> None:
    read = "arn:aws:rds-db:eu-west-1:111122223333:dbuser:db-1/admin"
    decision = decided(statement(Sid="Db", Action="*", Resource="arn:aws:s3:::x"), subject=request(read))
    assert (
        reason(decision) == "no statement allows this on `dbuser:db-1/admin`; the nearest, `Db`, is for other resources"
    )
    odd = decided(statement(Resource="arn:aws:s3:::x"), subject=request("odd"))
    assert "this on `odd`" in reason(odd)
    root = decided(statement(Resource="arn:aws:s3:::x"), subject=request(f"{ROUTE_ARN}/GET"))
    assert "GET on `/`" in reason(root)
    bare = NearMiss(statement=StatementRef(source="f", line=1, sid=None, policy_kind="resource"), element="Resource")
    assert reason(Decision(effect=Effect.IMPLICIT_DENY, misses=(bare,))).endswith("is for other resources")


def test_errors_and_allows() -> None:
    broken = Decision(effect=Effect.IMPLICIT_DENY, errors=("x",))
    assert reason(broken) == "the policies could not be evaluated for this request"
    assert full(broken) == ["implicit deny", "error: x"]
    assert reason(decided(statement())) == "allowed"
    half = decided(statement(), subject=request(account="444455556666"))
    assert reason(half) == "one side allows this, but the identity policy must allow it too"
    other = evaluate(policies(identity=[statement()]), request(account="444455556666"))
    assert reason(other) == "one side allows this, but the resource policy must allow it too"


def test_everything_for_the_operator() -> None:
    lines = full(decided(statement(Sid="Office", Condition=OFFICE), statement(Sid="Mfa", Condition=MFA)))
    assert lines == [
        "implicit deny",
        "near miss Office (resource.json:1): IpAddress on aws:SourceIp expected `10.0.0.0/8`, saw `203.0.113.9`",
        "near miss Mfa (resource.json:1): Bool on aws:MultiFactorAuthPresent expected `true`, saw no such key",
    ]
    resource = full(decided(statement(Sid="Write", Resource="execute-api:/prod/POST/*")))
    assert resource[1] == (
        f"near miss Write (resource.json:1): Resource expected `{ROUTE_ARN}/POST/*`, saw `{ROUTE_ARN}/GET/orders/42`"
    )


def test_what_cannot_be_read_is_told_once() -> None:
    one = statement("Deny", Sid="D", Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    two = statement(Sid="A", Resource="execute-api:/prod/POST/*", Condition=OFFICE)
    decision = decided(statement(), one, two, subject=request(network={"aws:sourceip": "nonsense"}))
    assert decision.effect is Effect.EXPLICIT_DENY
    assert decision.errors == ("D (resource.json:1): `NotIpAddress` cannot read the value of `aws:SourceIp`",)
