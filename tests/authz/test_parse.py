"""IAM JSON and YAML: what is understood, and the exact answer to what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.authz.requests import ROUTE_ARN
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.policy import Condition, Policy, PolicyKind
from ztproxy.errors import ConfigError

YAML = """
Version: 2012-10-17
Id: orders
Statement:
  - Sid: Read
    Effect: Allow
    Principal: {AWS: [111122223333, "*"], Federated: https://login.example.com}
    Action: execute-api:Invoke
    Resource: [execute-api:/prod/GET/*, "*"]
    Condition:
      StringEquals: {"login.example.com:aud": on, "aws:PrincipalTag/Team": 0123}
      Bool: {"aws:SecureTransport": true}
      DateLessThan: {"aws:CurrentTime": 2030-01-01}
"""


def parse(text: str, kind: PolicyKind = "resource", arn: str | None = ROUTE_ARN) -> Policy:
    return parse_policy(text, file="p.yaml", kind=kind, route_arn=arn)


def problems(text: str, kind: PolicyKind = "resource", arn: str | None = ROUTE_ARN) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text, kind, arn)
    return [one.message for one in raised.value.problems]


def one(**elements: Any) -> str:
    """A policy with one statement, good but for the elements given; None removes one."""
    said = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "*", **elements}
    kept = {name: value for name, value in said.items() if value is not None}
    return json.dumps({"Version": "2012-10-17", "Statement": [kept]})


def condition(operator: str, key: str, *values: str) -> str:
    return one(Condition={operator: {key: list(values)}})


def test_yaml_keeps_what_was_written() -> None:
    policy = parse(YAML)
    assert (policy.version, policy.kind, policy.file) == ("2012-10-17", "resource", "p.yaml")
    statement = policy.statements[0]
    assert (statement.sid, statement.effect, statement.line) == ("Read", "Allow", 5)
    assert statement.principals == ("AWS:111122223333", "*", "Federated:https://login.example.com")
    assert statement.resources == ("arn:aws:execute-api:eu-west-1:111122223333:orders/prod/GET/*", "*")
    assert statement.conditions == (
        Condition(operator="StringEquals", key="login.example.com:aud", values=("on",), line=11),
        Condition(operator="StringEquals", key="aws:PrincipalTag/Team", values=("0123",), line=11),
        Condition(operator="Bool", key="aws:SecureTransport", values=("true",), line=12),
        Condition(operator="DateLessThan", key="aws:CurrentTime", values=("2030-01-01",), line=13),
    )


def test_json_says_the_same() -> None:
    text = json.dumps(
        {"Version": "2008-10-17", "Statement": {"Effect": "Deny", "NotAction": "s3:*", "NotResource": "*"}}
    )
    policy = parse(text, "identity", None)
    statement = policy.statements[0]
    assert (statement.effect, statement.not_action, statement.not_resource) == ("Deny", True, True)
    assert statement.principals == ()
    negated = parse(one(Principal=None, NotPrincipal={"AWS": "111122223333"})).statements[0]
    assert (negated.principals, negated.not_principal) == (("AWS:111122223333",), True)


def test_every_problem_is_told_at_once_with_its_place() -> None:
    text = """Version: 2012-10-17
Statement:
  - Effect: Alow
    Principal: "*"
    Acton: execute-api:Invoke
    Resource: orders/*
    Condition:
      StringEqual: {"aws:SourceIp": 10.0.0.0/8}
      IpAddress: {"aws:SourceIpp": 10.0.0.0/8}
"""
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert str(raised.value).splitlines() == [
        "p.yaml:3:5: the statement needs `Action` or `NotAction`",
        "p.yaml:3:13: `Effect` must be `Allow` or `Deny`, not `Alow`",
        "p.yaml:5:5: the statement has no element `Acton`, did you mean `Action`?",
        "p.yaml:6:15: `orders/*` is not an ARN of six parts (arn:partition:service:region:account:resource) nor `*`",
        "p.yaml:8:7: there is no operator `StringEqual`, did you mean `StringEquals`?",
        "p.yaml:9:19: there is no condition key `aws:SourceIpp`, did you mean `aws:SourceIp`?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the policy must be a mapping"),
        ('{"Statement": []}', "`Statement` is an empty list"),
        ('{"Version": "2012-10-17"}', "the policy has no `Statement`"),
        ('{"Version": "2012-10-17", "Id": "", "Statement": []}', "`Id` is empty"),
        ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "`Version` is given twice"),
        (
            '{"Version": "2012-10-17", "Statment": {}}',
            "the policy has no element `Statment`, did you mean `Statement`?",
        ),
        ('{"Version": "2012-10-17", "Zzz": {}}', "the policy has no element `Zzz`"),
        ('{"Version": "2012-10-17", "Statement": ["x"]}', "the statement must be a mapping"),
        (one(Effect=None), "the statement has no `Effect`"),
        (one(Effect=["Allow"]), "`Effect` must be a text"),
        (one(Sid=""), "`Sid` is empty"),
        (one(Sid=["a"]), "`Sid` must be a text"),
        (one(Action=None), "the statement needs `Action` or `NotAction`"),
        (one(NotAction="*"), "`Action` and `NotAction` exclude each other"),
        (one(Action=[]), "an action is an empty list: an empty restriction never means all"),
        (one(Action=[""]), "an action is empty"),
        (one(Action=[["a"]]), "an action must be a text or a list of texts"),
        (one(Action={"a": "b"}), "an action must be a text or a list of texts"),
        (one(Action="Invoke"), "`Invoke` is not an action such as `execute-api:Invoke`"),
        (one(Action="execute-api:Invok"), "`execute-api:Invok` is no action of `execute-api`"),
        (one(Resource=None), "the statement needs `Resource` or `NotResource`"),
        (one(Resource=[]), "a resource is an empty list"),
        (one(Resource="arn:aws:s3:::${aws:username"), "is never closed"),
        (
            one(Resource="arn:aws:s3:::${aws:usernam}"),
            "there is no condition key `aws:usernam`, did you mean `aws:username`?",
        ),
        (one(Resource="arn:aws:s3:::${ztproxy:groups}"), "can have several values, so it cannot be a variable"),
        (one(Principal=None), "the statement needs `Principal` or `NotPrincipal`"),
        (one(NotPrincipal="*"), "`Principal` and `NotPrincipal` exclude each other"),
        (one(Principal=None, NotPrincipal="*"), "`NotPrincipal` with `*` selects nobody"),
        (one(Principal="ada"), "`ada` needs its type"),
        (one(Principal={}), "a principal without names never means everyone: write `*`"),
        (one(Principal={"AWS": []}), "a principal is an empty list"),
        (one(Principal={"AWS": "ada"}), "`ada` is not `*`, a 12-digit account id"),
        (one(Principal={"Aws": "*"}), "a principal has no element `Aws`, did you mean `AWS`?"),
        (
            one(Principal={"Federated": "arn:aws:iam::444455556666:oidc-provider/x.example"}),
            "a provider of another account",
        ),
        (one(Condition="x"), "`Condition` must be a mapping of operators"),
        (one(Condition={}), "`Condition` is empty"),
        (one(Condition={"Bool": "x"}), "`Bool` must be a mapping of condition keys"),
        (one(Condition={"Bool": {}}), "`Bool` names no condition key"),
        (one(Condition={"Zzz": {}}), "there is no operator `Zzz`"),
        (one(Condition={"NullIfExists": {}}), "there is no operator `NullIfExists`"),
        (condition("Bool", "aws:SecureTransport"), "a value of `aws:SecureTransport` is an empty list"),
        (condition("Bool", "aws:SecureTransport", "yes"), "`yes` is neither `true` nor `false`"),
        (condition("IpAddress", "aws:SourceIp", "nonsense"), "`nonsense` is not an address or a network"),
        (condition("DateLessThan", "aws:CurrentTime", "soon"), "`soon` is not a date"),
        (condition("StringEquals", "ztproxy:groups", "dev"), "write `ForAnyValue:StringEquals` (at least one matches)"),
        (
            condition("StringEquals", "login.example.com:amr", "mfa"),
            "can have several values: write `ForAnyValue:StringEquals`",
        ),
        (condition("StringEquals", "aws:SourceIp", "10.0.0.1"), "use `IpAddress`, `NotIpAddress`"),
        (
            condition("IpAddress", "aws:SourceVpce", "10.0.0.1"),
            "`IpAddress` cannot compare `aws:SourceVpce`: use `StringEquals`",
        ),
        (
            condition("NumericEquals", "aws:CurrentTime", "1"),
            "`NumericEquals` cannot compare `aws:CurrentTime`: use `DateEquals`",
        ),
        (condition("StringEquals", "s3:prefix", "x"), "`s3:prefix` is never present here"),
        (condition("StringEquals", "sourceip", "x"), "there is no condition key `sourceip`"),
        (condition("StringEquals", "aws:username", "${aws:nope}"), "there is no condition key `aws:nope`"),
        (condition("StringEquals", "aws:username", "${nope}"), "`${nope}` is not a variable"),
        ("a: [", "not valid YAML or JSON"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert any(message in said for said in problems(text)), problems(text)


@pytest.mark.parametrize("version", ["2012-10-18", "2012", "1", "", "latest"])
def test_the_version_must_be_a_known_one(version: str) -> None:
    text = one().replace("2012-10-17", version)
    assert any("ersion" in said for said in problems(text))
    assert problems('{"Statement": []}')[0].startswith("the policy has no `Version`")


def test_repeated_names_are_refused() -> None:
    assert "`Effect` is given twice" in problems(one().replace('"Effect"', '"Effect": "Deny", "Effect"'))
    keys = one(Condition={"StringEquals": {"aws:username": "a", "AWS:UserName": "b"}})
    assert problems(keys) == ["`AWS:UserName` is given twice"]
    operators = (
        '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"'
    )
    operators += ', "Condition": {"Bool": {"aws:SecureTransport": "true"}, "Bool": {"aws:SecureTransport": "false"}}}}'
    assert problems(operators) == ["`Bool` is given twice"]


def test_a_sid_belongs_to_one_statement() -> None:
    two = json.loads(one(Sid="Same"))
    two["Statement"] *= 2
    assert problems(json.dumps(two)) == ["the Sid `Same` is already that of the statement in line 1"]
    unnamed = json.loads(one())
    unnamed["Statement"] *= 2
    assert len(parse(json.dumps(unnamed)).statements) == 2


def test_an_identity_policy_names_no_principal() -> None:
    assert problems(one(), "identity") == ["`Principal` has no place in an identity policy: its grant says who"]
    negated = one(Principal=None, NotPrincipal={"AWS": "111122223333"})
    assert problems(negated, "identity") == ["`NotPrincipal` has no place in an identity policy: its grant says who"]


@pytest.mark.parametrize(("kind", "arn"), [("identity", ROUTE_ARN), ("resource", None)])
def test_the_short_form_belongs_to_a_route(kind: PolicyKind, arn: str | None) -> None:
    text = one(Principal="*" if kind == "resource" else None, Resource="execute-api:/prod/GET/*")
    assert problems(text, kind, arn) == [
        "the short form `execute-api:/prod/GET/*` only has a meaning in the policy of a route"
    ]


def test_keys_of_other_services_may_stand_where_they_concern_nobody_here() -> None:
    text = one(Action=["s3:GetObject"], Condition={"StringLike": {"s3:prefix": "home/${aws:username}/*"}})
    assert parse(text).statements[0].conditions[0].key == "s3:prefix"


def test_before_2012_variables_are_text() -> None:
    text = one(Resource="arn:aws:s3:::${nonsense", Condition={"StringEquals": {"aws:username": "${nope"}})
    assert parse(text.replace("2012-10-17", "2008-10-17")).statements[0].resources == ("arn:aws:s3:::${nonsense",)


def test_an_empty_value_is_a_value_but_nothing_is_not() -> None:
    assert parse(condition("StringEquals", "aws:username", "")).statements[0].conditions[0].values == ("",)
    assert problems(one(Condition={"StringEquals": {"aws:username": None}})) == ["a value of `aws:username` is empty"]
