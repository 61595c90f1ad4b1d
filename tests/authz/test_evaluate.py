"""The decision, case by case, and against a reference that is too simple to be wrong."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.authz.requests import AT, FEDERATED, ISSUER, ROUTE_ARN, policies, request, statement
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.policy import PolicySet
from ztproxy.types import AccessRequest, Effect

ADA = "AWS:arn:aws:iam::111122223333:user/ada"
OTHER = "AWS:arn:aws:iam::444455556666:user/bob"
ALLOW, DENY, SILENCE = Effect.ALLOW, Effect.EXPLICIT_DENY, Effect.IMPLICIT_DENY


def outcome(set_: PolicySet, subject: AccessRequest | None = None) -> Effect:
    return evaluate(set_, subject or request()).effect


def test_silence_denies() -> None:
    assert outcome(policies()) is SILENCE
    assert outcome(policies([statement(Action="rds-db:connect")])) is SILENCE


def test_either_side_allows_in_the_same_account() -> None:
    assert outcome(policies([statement(Principal=FEDERATED)])) is ALLOW
    assert outcome(policies(identity=[statement()])) is ALLOW
    assert outcome(policies([statement(Principal={"Federated": "https://other.example.com"})])) is SILENCE


@pytest.mark.parametrize("kind", ["resource", "identity"])
def test_an_explicit_deny_wins(kind: str) -> None:
    sides: dict[str, Any] = {"resource": [statement()], "identity": [statement()]}
    sides[kind].append(statement("Deny", Sid="No"))
    decision = evaluate(policies(**sides), request())
    assert decision.effect is DENY
    assert [ref.sid for ref in decision.deciding] == ["No"]


def test_every_denying_statement_is_named_up_to_five() -> None:
    decision = evaluate(policies([statement("Deny", Sid=f"No{i}") for i in range(7)]), request())
    assert [ref.sid for ref in decision.deciding] == [f"No{i}" for i in range(5)]


def test_across_accounts_both_sides_must_allow() -> None:
    subject = request(principals=(OTHER,), account="444455556666")
    both = policies([statement(Principal={"AWS": "arn:aws:iam::444455556666:user/bob"})], [statement()])
    decision = evaluate(both, subject)
    assert decision.allowed
    assert [ref.policy_kind for ref in decision.deciding] == ["resource", "identity"]
    for half, kind in ((policies([statement()]), "resource"), (policies(identity=[statement()]), "identity")):
        decision = evaluate(half, subject)
        assert decision.effect is SILENCE
        assert [ref.policy_kind for ref in decision.deciding] == [kind]
    assert evaluate(policies(), subject).deciding == ()
    account = policies([statement(Principal={"AWS": "444455556666"})], [statement()])
    assert outcome(account, subject) is ALLOW


def test_naming_the_account_only_delegates() -> None:
    subject = request(principals=(ADA,), account="111122223333")
    for name in ("111122223333", "arn:aws:iam::111122223333:root"):
        decision = evaluate(policies([statement(Principal={"AWS": name})]), subject)
        assert decision.effect is SILENCE
        assert len(decision.deciding) == 1
        assert outcome(policies([statement(Principal={"AWS": name})], [statement()]), subject) is ALLOW
        assert outcome(policies([statement("Deny", Principal={"AWS": name})], [statement()]), subject) is DENY


def test_the_anonymous_match_only_everyone() -> None:
    nobody = request(kind="anonymous", principals=(), subject="ada@example.com")
    assert outcome(policies([statement()]), nobody) is ALLOW
    assert outcome(policies([statement(Principal={"AWS": "*"})]), nobody) is ALLOW
    assert outcome(policies([statement(Principal=FEDERATED)]), nobody) is SILENCE
    assert outcome(policies([statement(NotPrincipal=FEDERATED)]), nobody) is SILENCE
    assert outcome(policies([statement(), statement("Deny", NotPrincipal=FEDERATED)]), nobody) is DENY
    assert outcome(policies(identity=[statement()]), nobody) is SILENCE


def test_an_error_inside_denies_and_says_so() -> None:
    broken = replace(policies([statement()]), index=None)  # type: ignore[arg-type]
    decision = evaluate(broken, request())
    assert decision.effect is SILENCE
    assert decision.errors == ("the policies could not be evaluated: AttributeError",)
    assert decision.digest == broken.digest


def test_an_unreadable_value_is_told() -> None:
    one = statement(Sid="Office", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    decision = evaluate(policies([one]), request(network={"aws:sourceip": "nonsense"}))
    assert decision.effect is SILENCE
    assert "cannot read the value of `aws:SourceIp`" in decision.errors[0]


def test_a_condition_on_time_bounds_the_decision() -> None:
    hours = {
        "DateGreaterThan": {"aws:CurrentTime": "2026-11-22T07:00:00Z"},
        "DateLessThan": {"aws:CurrentTime": "2026-11-22T17:00:00Z"},
    }
    open_ = policies([statement(Condition=hours)])
    assert evaluate(open_, request()).ttl_s == 9 * 3600
    assert outcome(open_, request(at=AT + timedelta(hours=9))) is SILENCE
    assert evaluate(policies([statement()]), request()).ttl_s is None
    past = policies(identity=[statement(Condition={"DateGreaterThan": {"aws:CurrentTime": "2020-01-01"}})])
    assert evaluate(past, request()).ttl_s is None
    both = policies([statement(Condition=hours)], [statement()])
    assert evaluate(both, request(principals=(OTHER,), account="444455556666")).ttl_s == 9 * 3600


def test_a_condition_on_the_age_of_the_sign_in_bounds_the_decision() -> None:
    recent = {"NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}}
    signed_in = {
        "aws:multifactorauthpresent": "true",
        "ztproxy:claim/auth_time": str(int((AT - timedelta(minutes=50)).timestamp())),
    }
    decision = evaluate(policies([statement(Condition=recent)]), request(identity=signed_in))
    assert decision.allowed
    assert decision.ttl_s == 600
    assert outcome(policies([statement(Condition=recent)])) is SILENCE


# --- against a reference

RESOURCES = [
    "*",
    "arn:aws:execute-api:eu-west-1:111122223333:orders/prod/GET/*",
    "arn:aws:*:*:*:o*/GET/a",
    f"{ROUTE_ARN}/GET/a",
]
PRINCIPALS: list[Any] = ["*", FEDERATED, {"AWS": "111122223333"}, {"AWS": "arn:aws:iam::111122223333:user/ada"}]
CONDITIONS: list[Any] = [
    None,
    {"IpAddress": {"aws:SourceIp": "203.0.113.9/32"}},
    {"StringNotEquals": {"aws:SourceVpce": ["vpce-1", "vpce-2"]}},
    {"ForAnyValue:StringEquals": {"ztproxy:groups": ["dev", "ops"]}},
    {"ForAllValues:StringEquals": {"ztproxy:groups": "dev"}},
    {"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}},
]
statements = st.builds(
    statement,
    st.sampled_from(["Allow", "Allow", "Deny"]),
    Principal=st.sampled_from(PRINCIPALS),
    Resource=st.sampled_from(RESOURCES),
    Action=st.sampled_from(["*", "execute-api:Invoke", "rds-db:connect"]),
    Condition=st.sampled_from(CONDITIONS),
)
requests = st.builds(
    request,
    st.sampled_from([f"{ROUTE_ARN}/GET/a", f"{ROUTE_ARN}/GET/b/c", f"{ROUTE_ARN}/POST/a"]),
    principals=st.sampled_from([(f"Federated:{ISSUER}",), (ADA,), (OTHER,)]),
    account=st.sampled_from([None, "111122223333", "444455556666"]),
    groups=st.sampled_from([(), ("dev",), ("dev", "sales")]),
    network=st.sampled_from(
        [{"aws:sourceip": "203.0.113.9"}, {"aws:sourcevpce": "vpce-1"}, {"aws:sourceip": "1.2.3.4"}]
    ),
    identity=st.sampled_from([{}, {"aws:multifactorauthpresent": "true"}, {"aws:multifactorauthpresent": "false"}]),
)
FEW = st.lists(statements, max_size=4)


def naive_condition(block: Any, r: AccessRequest) -> bool:
    operator, pairs = next(iter((block or {"": {"": ""}}).items()))
    value = {**r.network.facts, **r.identity.facts}.get(next(iter(pairs)).lower())
    wanted = next(iter(pairs.values()))
    return {
        "": True,
        "IpAddress": value == "203.0.113.9",
        "StringNotEquals": value not in tuple(wanted),
        "ForAnyValue:StringEquals": bool({"dev", "ops"} & set(r.identity.groups)),
        "ForAllValues:StringEquals": set(r.identity.groups) <= {"dev"},
        "BoolIfExists": value in (None, "true"),
    }[operator]


def naive_principal(principal: Any, r: AccessRequest) -> str:
    """`direct`, `account` or nothing."""
    if principal == "*" or any(f"{kind}:{name}" in r.identity.principals for kind, name in principal.items()):
        return "direct"
    own = r.identity.principals[0].split(":")
    return "account" if own[0] == "AWS" and principal == {"AWS": own[5]} else ""


def reference(resource: Sequence[Mapping[str, Any]], identity: Sequence[Mapping[str, Any]], r: AccessRequest) -> str:
    """AWS's rule in ten lines; matching by the standard library."""

    def applies(one: Mapping[str, Any]) -> bool:
        fits = fnmatch.fnmatchcase(r.resource, one["Resource"])
        return fits and one["Action"] in ("*", r.ask.action) and naive_condition(one.get("Condition"), r)

    mine = [(one, naive_principal(one["Principal"], r)) for one in resource if applies(one)]
    own = [one["Effect"] for one in identity if applies(one)]
    if "Deny" in own or any(level and one["Effect"] == "Deny" for one, level in mine):
        return "explicit_deny"
    levels = {level for one, level in mine if one["Effect"] == "Allow"}
    cross = r.identity.account not in (None, r.route.account)
    allowed = bool(levels - {""}) and "Allow" in own if cross else "direct" in levels or "Allow" in own
    return "allow" if allowed else "implicit_deny"


@settings(max_examples=200, deadline=None)
@given(FEW, FEW, st.lists(requests, min_size=1, max_size=6))
def test_the_reference_agrees(resource: list[Any], identity: list[Any], asked: list[AccessRequest]) -> None:
    set_ = policies(resource, identity)
    for subject in [*asked, *asked, *asked]:  # who comes again is answered from memory
        assert evaluate(set_, subject).effect.value == reference(resource, identity, subject)


@settings(max_examples=50, deadline=None)
@given(st.lists(statements, min_size=25, max_size=40), requests)
def test_the_reference_agrees_on_what_is_indexed_by_resource(resource: list[Any], subject: AccessRequest) -> None:
    set_ = policies(resource)
    for _ in range(3):
        assert evaluate(set_, subject).effect.value == reference(resource, [], subject)


@settings(max_examples=100, deadline=None)
@given(FEW, st.randoms(use_true_random=False), requests)
def test_order_does_not_matter(resource: list[Any], random: Any, subject: AccessRequest) -> None:
    shuffled = list(resource)
    random.shuffle(shuffled)
    assert outcome(policies(resource), subject) is outcome(policies(shuffled), subject)


@settings(max_examples=100, deadline=None)
@given(FEW, requests)
def test_a_deny_for_everyone_wins_wherever_it_stands(resource: list[Any], subject: AccessRequest) -> None:
    for place in range(len(resource) + 1):
        assert outcome(policies([*resource[:place], statement("Deny"), *resource[place:]]), subject) is DENY


@settings(max_examples=100, deadline=None)
@given(st.lists(statements, min_size=1, max_size=4), requests)
def test_removing_an_allow_never_allows_more(resource: list[Any], subject: AccessRequest) -> None:
    before = outcome(policies(resource), subject)
    for place, one in enumerate(resource):
        if one["Effect"] == "Allow":
            after = outcome(policies([*resource[:place], *resource[place + 1 :]]), subject)
            assert after is not ALLOW or before is ALLOW


@settings(max_examples=100, deadline=None)
@given(FEW, requests, st.text(max_size=20))
def test_a_query_never_matters(resource: list[Any], subject: AccessRequest, query: str) -> None:
    asked = subject._replace(ask=subject.ask._replace(path=f"{subject.ask.path}?{query}"))
    assert evaluate(policies(resource), asked) == evaluate(policies(resource), subject)


def test_the_reference_is_shown_every_kind_of_answer() -> None:
    seen = {reference([one], [], request(f"{ROUTE_ARN}/GET/a")) for one in (statement(), statement("Deny"))}
    seen.add(reference([], [], request()))
    assert seen == {"allow", "explicit_deny", "implicit_deny"}
