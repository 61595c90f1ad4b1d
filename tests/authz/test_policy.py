"""What a policy says, and what a grant may be attached to."""

from __future__ import annotations

import pytest

from tests.authz.requests import policy, statement
from ztproxy.authz.policy import GrantBinding, GrantMatch
from ztproxy.types import StatementRef


def test_variables_belong_to_the_newer_version() -> None:
    assert policy(statement()).variables
    assert not policy(statement(), version="2008-10-17").variables


def test_a_statement_has_a_place() -> None:
    one = policy(statement(Sid="Read"))
    assert one.ref(one.statements[0]) == StatementRef(
        source="resource.json", line=1, sid="Read", policy_kind="resource"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "match everyone"),
        ({"group": ""}, "empty text"),
        ({"spiffe": "https://prod.example.com/x"}, "not a SPIFFE ID"),
        ({"spiffe": "spiffe://prod.example.com"}, "not a SPIFFE ID"),
        ({"spiffe": "spiffe://prod.example.com/"}, "not a SPIFFE ID"),
        ({"spiffe": "spiffe:///billing"}, "not a SPIFFE ID"),
        ({"spiffe": "spiffe://*.example.com/billing"}, "trust domain"),
        ({"spiffe": "spiffe://prod?.example.com/billing"}, "trust domain"),
        ({"principal": "ada"}, "ARN of one principal"),
        ({"principal": "arn:aws:iam::111122223333:user/*"}, "ARN of one principal"),
    ],
)
def test_matches_that_cannot_be_meant_are_refused(parts: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrantMatch(**parts)


def test_matches_that_can() -> None:
    GrantMatch(issuer="https://login.example.com", group="dev", subject="ada")
    GrantMatch(spiffe="spiffe://prod.example.com/billing/*")
    GrantMatch(principal="arn:aws:iam::111122223333:user/ci")


def test_a_grant_without_policies_is_refused() -> None:
    with pytest.raises(ValueError, match="without policies"):
        GrantBinding(match=GrantMatch(group="dev"), policies=())
    one = policy(statement(Principal=None), kind="identity")
    assert GrantBinding(match=GrantMatch(group="dev"), policies=(one,)).policies == (one,)
