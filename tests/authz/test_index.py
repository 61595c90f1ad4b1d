"""Compiled policy sets: who is found by what, what is remembered, and that looking up never changes an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.authz.requests import FEDERATED, ISSUER, ROUTE_ARN, policies, policy, request, statement
from ztproxy.authz import index, match
from ztproxy.authz.index import build_policy_set, content_digest, grant_matches
from ztproxy.authz.policy import GrantBinding, GrantMatch, PolicySet
from ztproxy.types import AccessRequest

USER = "AWS:arn:aws:iam::111122223333:user/ada"
ROLE = "arn:aws:iam::111122223333:role/team/dev"
SESSION = "AWS:arn:aws:sts::111122223333:assumed-role/dev/ada"


def found(set_: PolicySet, subject: AccessRequest) -> list[tuple[str, str | None]]:
    return [(part, one.source.sid) for part, one in set_.index.candidates(subject).statements]


def test_statements_are_found_by_principal() -> None:
    set_ = policies(
        [
            statement(Sid="all"),
            statement("Deny", Sid="none"),
            statement(Sid="issuer", Principal=FEDERATED),
            statement(Sid="user", Principal={"AWS": [USER.removeprefix("AWS:"), "111122223333"]}),
            statement(Sid="account", Principal={"AWS": "111122223333"}),
            statement("Deny", Sid="account-deny", Principal={"AWS": "111122223333"}),
            statement(Sid="role", Principal={"AWS": ROLE}),
        ]
    )
    assert found(set_, request()) == [("direct", "all"), ("denies", "none"), ("direct", "issuer")]
    account = [("delegated", "account"), ("denies", "account-deny")]
    everyone = [("direct", "all"), ("denies", "none")]
    assert found(set_, request(principals=(USER,))) == [*everyone, ("direct", "user"), *account]
    session = [*everyone, ("delegated", "user"), *account, ("direct", "role")]
    assert found(set_, request(principals=(SESSION,))) == session
    assert found(set_, request(route="elsewhere")) == []
    assert set_.index.of_route("elsewhere") == ()
    assert len(set_.index.of_route("orders")) == 7


@pytest.mark.parametrize(
    ("principals", "kind", "parts"),
    [
        ((USER,), "sigv4", []),
        (("AWS:arn:aws:iam::111122223333:user/bob",), "sigv4", ["direct", "denies"]),
        (("AWS:arn:aws:iam::444455556666:user/eve",), "sigv4", ["direct", "denies"]),
        ((), "anonymous", ["denies"]),
    ],
)
def test_not_principal(principals: tuple[str, ...], kind: str, parts: list[str]) -> None:
    nobody: dict[str, Any] = {"NotPrincipal": {"AWS": USER.removeprefix("AWS:")}}
    set_ = policies([statement(**nobody), statement("Deny", **nobody)])
    assert [part for part, _ in found(set_, request(principals=principals, kind=kind))] == parts


def test_naming_the_account_or_role_spares_nobody_from_a_deny() -> None:
    for name in ("111122223333", ROLE):
        set_ = policies([statement("Deny", NotPrincipal={"AWS": name}), statement(NotPrincipal={"AWS": name})])
        assert [part for part, _ in found(set_, request(principals=(SESSION,)))] == ["denies"]


@pytest.mark.parametrize(
    ("parts", "matches"),
    [
        ({"issuer": ISSUER}, True),
        ({"issuer": "https://other.example.com"}, False),
        ({"issuer": ISSUER + "/"}, False),
        ({"group": "dev"}, True),
        ({"group": "de"}, False),
        ({"subject": "ada@example.com"}, True),
        ({"subject": "ADA@example.com"}, False),
        ({"spiffe": "spiffe://prod.example.com/laptop/*"}, True),
        ({"spiffe": "spiffe://prod.example.com/laptop/7"}, True),
        ({"spiffe": "spiffe://prod.example.com/laptop"}, False),
        ({"principal": "arn:aws:iam::111122223333:role/dev"}, True),
        ({"principal": ROLE}, True),
        ({"principal": "arn:aws:iam::111122223333:role/ops"}, False),
        ({"issuer": ISSUER, "group": "dev"}, True),
        ({"issuer": ISSUER, "group": "ops"}, False),
    ],
)
def test_grants_match_exactly_and_in_every_part(parts: dict[str, str], matches: bool) -> None:
    facts = {"ztproxy:spiffeid": "spiffe://prod.example.com/laptop/7"}
    subject = request(principals=(f"Federated:{ISSUER}", SESSION), groups=("dev",), identity=facts).identity
    assert grant_matches(GrantMatch(**parts), subject, match.caller(subject.principals)) is matches


def test_grants_never_match_the_anonymous_or_a_missing_spiffe_id() -> None:
    nobody = request(kind="anonymous", groups=("dev",)).identity
    assert not grant_matches(GrantMatch(group="dev"), nobody, match.caller(()))
    wanted = GrantMatch(spiffe="spiffe://prod.example.com/*")
    assert not grant_matches(wanted, request().identity, match.caller(()))
    several = request(identity={"ztproxy:spiffeid": ("spiffe://prod.example.com/a",)}).identity
    assert not grant_matches(wanted, several, match.caller(()))


def test_a_grant_brings_its_statements() -> None:
    set_ = policies(identity=[statement(Sid="a"), statement("Deny", Sid="d")], match=GrantMatch(group="dev"))
    assert found(set_, request(groups=("dev",))) == [("identity", "a"), ("denies", "d")]
    assert found(set_, request(groups=("ops",))) == []


def test_callers_are_remembered_apart() -> None:
    """The same subject with other groups, principals or SPIFFE ID is another caller, and so is an equal object."""
    set_ = policies(identity=[statement(Sid="a")], match=GrantMatch(group="dev"))
    dev = request(groups=("dev",))
    assert set_.index.candidates(dev) is set_.index.candidates(dev)
    assert set_.index.candidates(request(groups=("dev",))) is set_.index.candidates(dev)
    assert set_.index.candidates(request()) is not set_.index.candidates(dev)
    moved = dev._replace(route=replace(dev.route, name="other"))
    assert set_.index.candidates(moved) is not set_.index.candidates(dev)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_CALLERS", 2)
    monkeypatch.setattr(index, "_ACTIONS", 2)
    set_ = policies([statement(Action="*")])
    for number in range(5):
        subject = request(subject=f"s{number}", action=f"ztproxy:A{number}")
        candidates = set_.index.candidates(subject)
        assert candidates.select(subject.ask.action).rows(subject.resource)[0].direct
        assert len(set_.index._callers) <= 2
        assert len(set_.index._recent) <= 2
    shared = set_.index.candidates(request())
    for number in range(5):
        shared.select(f"ztproxy:A{number}")
        assert len(shared._by_action) <= 2


def test_many_statements_are_found_by_resource() -> None:
    many = [statement(Sid=f"s{i}", Resource=f"execute-api:/prod/GET/x{i}/*") for i in range(100)]
    deep = "a/b/c/d/e/f/g/h/i"
    more = [
        statement(Sid="all"),
        statement("Deny", Sid="exact", Resource="execute-api:/prod/GET/x7"),
        statement(Sid="deep", Resource=f"execute-api:/prod/{deep}/*"),
        statement(Sid="several", Resource=["execute-api:/prod/GET/x7/*", "execute-api:/prod/GET/x8/*"]),
    ]
    set_ = policies([*many, *more])

    def sids(path: str) -> set[str | None]:
        subject = request(f"{ROUTE_ARN}/{path}")
        rows = set_.index.candidates(subject).select("execute-api:Invoke").rows(subject.resource)
        tried = [one for row in rows for one in (*row.direct, *row.denies)]
        assert len(tried) <= 5
        return {one.source.sid for one in tried if one.holds(subject)}

    assert sids("GET/x7/1") == {"all", "s7", "several"}
    assert sids("GET/x7") == {"all", "exact"}
    assert sids(f"{deep}/j/k") == {"all", "deep"}
    assert sids("GET/none") == {"all"}
    only = policies(many)
    assert (
        list(only.index.candidates(request("arn:aws:s3:::x")).select("execute-api:Invoke").rows("arn:aws:s3:::x")) == []
    )


def test_time_conditions_are_gathered() -> None:
    timed = statement(Condition={"DateLessThan": {"aws:CurrentTime": ["1", "0"]}})
    selection = policies([timed, timed]).index.candidates(request()).select("execute-api:Invoke")
    assert selection.timed == ((False, 0), (False, 1_000_000))


def test_the_digest_is_of_what_is_said() -> None:
    first = policies([statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "true"}})], [statement()])
    again = policies([statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "true"}})], [statement()])
    assert first.digest == again.digest
    assert len(first.digest) == 64
    moved = [replace(one, line=99) for one in first.resource["orders"].statements]
    elsewhere = {"orders": replace(first.resource["orders"], file="other.yaml", statements=tuple(moved))}
    assert content_digest(elsewhere, first.identity) == first.digest
    others = [
        policies([statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "false"}})], [statement()]),
        policies([statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "true"}})], [statement("Deny")]),
        policies([statement(Sid="b", Condition={"Bool": {"aws:SecureTransport": "true"}})], [statement()]),
        policies([statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "true"}})]),
        policies(
            [statement(Sid="a", Condition={"Bool": {"aws:SecureTransport": "true"}})],
            [statement()],
            match=GrantMatch(group="dev"),
        ),
    ]
    assert len({first.digest, *(one.digest for one in others)}) == 6


def test_each_kind_has_its_place() -> None:
    resource, identity = policy(statement()), policy(statement(Principal=None), kind="identity")
    with pytest.raises(ValueError, match="route `orders` needs a resource policy"):
        build_policy_set({"orders": identity}, [])
    with pytest.raises(ValueError, match="a grant needs identity policies"):
        build_policy_set({}, [GrantBinding(match=GrantMatch(group="dev"), policies=(resource,))])
