from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.authn.tokens import ACCOUNT, AUDIENCE, ISSUER, NOW, NOW_S, claims
from ztproxy.authn.claims import MAX_CLAIM_NAME_CHARACTERS, ClaimMapping, Federation, token_identity
from ztproxy.authn.jwt import SignedClaims
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity

FEDERATION = Federation.of(name="corp", issuer=ISSUER, partition="aws", account=ACCOUNT)
EMAIL = {"email": "ada@example.com", "email_verified": True}


def identity(mapping: ClaimMapping | None = None, **changes: Any) -> Identity:
    return token_identity(SignedClaims(claims(**changes)), mapping or ClaimMapping(), FEDERATION, leeway_s=60, now=NOW)


def refused(mapping: ClaimMapping | None = None, **changes: Any) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identity(mapping, **changes)
    assert caught.value.code == "authn.token-claims"


def test_a_plain_identity() -> None:
    who = identity()
    assert (who.subject, who.kind, who.issuer, who.method, who.groups) == ("ada", "jwt", "corp", "jwt", ())
    assert who.authenticated_at == NOW - timedelta(seconds=10)
    assert who.expires_at == NOW + timedelta(seconds=360)
    assert who.principals == (
        "Federated:https://login.example.com",
        "Federated:arn:aws:iam::111122223333:oidc-provider/login.example.com",
    )
    assert dict(who.facts) == {
        "login.example.com:aud": AUDIENCE,
        "login.example.com:sub": "ada",
        "aws:federatedprovider": "arn:aws:iam::111122223333:oidc-provider/login.example.com",
        "aws:multifactorauthpresent": "false",
        "aws:tokenissuetime": "2025-12-31T23:59:50Z",
        "aws:userid": "111122223333:ada",
    }


def test_names_of_an_issuer_with_a_path() -> None:
    federation = Federation.of(name="x", issuer="https://Login.example.com/realms/One", partition="aws-cn", account="1")
    assert federation.provider_arn == "arn:aws-cn:iam::1:oidc-provider/Login.example.com/realms/One"
    assert federation.sub_key == "login.example.com/realms/one:sub"
    assert (
        Federation.of(name="x", issuer="http://127.0.0.1:9/", partition="aws", account="1").provider == "127.0.0.1:9/"
    )


def test_without_an_issue_time_the_moment_of_proof_counts() -> None:
    who = identity(iat=None)
    assert who.authenticated_at == NOW
    assert "aws:tokenissuetime" not in who.facts


def test_the_latest_time_has_an_expiry() -> None:
    assert identity(exp=99_999_999_999).expires_at == datetime.fromtimestamp(100_000_000_059, UTC)


@pytest.mark.parametrize(("audience", "fact"), [("a", "a"), (["a"], "a"), (["a", "b"], ("a", "b"))])
def test_audiences(audience: object, fact: object) -> None:
    assert identity(aud=audience).facts["login.example.com:aud"] == fact


@pytest.mark.parametrize(
    ("amr", "fact", "present"),
    [
        (["pwd", "mfa"], ("pwd", "mfa"), "true"),
        (["hwk"], ("hwk",), "true"),
        (["fido"], ("fido",), "true"),
        (["otp"], ("otp",), "true"),
        (["pwd"], ("pwd",), "false"),
        (["MFA"], ("MFA",), "false"),
        ([], None, "false"),
        ("mfa", None, "false"),
        (["mfa", 1], None, "false"),
    ],
)
def test_authentication_methods(amr: object, fact: object, present: str) -> None:
    facts = identity(amr=amr).facts
    assert facts.get("login.example.com:amr") == fact
    assert facts["aws:multifactorauthpresent"] == present


@pytest.mark.parametrize(
    ("value", "groups"), [(["dev", "ops"], ("dev", "ops")), ("dev", ("dev",)), ("a,b", ("a,b",)), ([], ()), (None, ())]
)
def test_groups(value: object, groups: tuple[str, ...]) -> None:
    who = identity(groups=value)
    assert who.groups == groups
    assert who.facts.get("ztproxy:groups", ()) == groups
    assert ("ztproxy:groups" in who.facts) == bool(groups)
    assert "ztproxy:claim/groups" not in who.facts


@pytest.mark.parametrize("value", ["", ["dev", ""], ["dev", 1], ["dev\n"], {"dev": True}, True, [["dev"]], [" dev"]])
def test_malformed_groups_refuse_the_token(value: object) -> None:
    refused(groups=value)


def test_groups_may_have_another_name_or_none() -> None:
    assert identity(ClaimMapping(groups="roles"), roles=["dev"], groups=["x"]).groups == ("dev",)
    who = identity(ClaimMapping(groups=None), groups=["dev"])
    assert who.groups == ()
    assert who.facts["ztproxy:claim/groups"] == ("dev",)


def test_other_claims() -> None:
    odd: dict[str, Any] = {
        "n" * (MAX_CLAIM_NAME_CHARACTERS + 1): "long",
        "new\nline": "x",
        "https://x.example/role": "dev",
    }
    facts = identity(
        scope="read write",
        Level=3,
        ratio=0.5,
        verified=False,
        roles=["a", 1, True],
        realm_access={"roles": ["admin"]},
        mixed=["a", {}],
        nulls=[None],
        empty=[],
        jti="t-1",
        **odd,
    ).facts
    assert {key: value for key, value in facts.items() if key.startswith("ztproxy:claim/")} == {
        "ztproxy:claim/scope": "read write",
        "ztproxy:claim/level": "3",
        "ztproxy:claim/ratio": "0.5",
        "ztproxy:claim/verified": "false",
        "ztproxy:claim/roles": ("a", "1", "true"),
        "ztproxy:claim/https://x.example/role": "dev",
    }


def test_names_that_differ_only_in_case_refuse_the_token() -> None:
    refused(role="dev", Role="admin")


def test_tags() -> None:
    mapping = ClaimMapping(tags={"Team": "department", "Cost": "centre"})
    facts = identity(mapping, department="search").facts
    assert facts["aws:principaltag/team"] == "search"
    assert "aws:principaltag/cost" not in facts
    refused(mapping, department=["search"])
    refused(mapping, department="a\tb")


@pytest.mark.parametrize("subject", [None, "", 5, " x", "x\u200b"])
def test_a_mapped_subject_must_name_somebody(subject: object) -> None:
    refused(ClaimMapping(subject="upn"), upn=subject)
    assert identity(ClaimMapping(subject="upn"), upn="ada@corp").subject == "ada@corp"


def test_a_token_without_sub_can_have_another_subject() -> None:
    who = identity(ClaimMapping(subject="client_id"), sub=None, client_id="batch")
    assert who.subject == "batch"
    assert "login.example.com:sub" not in who.facts
    refused(sub=None)


def test_an_address_is_a_subject_only_when_verified() -> None:
    mapping = ClaimMapping(subject="email")
    assert identity(mapping, **EMAIL).subject == "ada@example.com"
    for verified in (None, False, "true", "false", 1):
        refused(mapping, **{**EMAIL, "email_verified": verified})
    refused(mapping, **{**EMAIL, "email": "ada@example.com@attacker.example"})


def test_address_domains() -> None:
    mapping = ClaimMapping(email_domains=frozenset({"example.com"}))
    assert identity(mapping, **EMAIL).subject == "ada"
    assert identity(mapping, **{**EMAIL, "email": "ada@EXAMPLE.com"}).subject == "ada"
    for email in ("ada@attacker.example", "ada@sub.example.com", "ada@example.com.", None, 1):
        refused(mapping, **{**EMAIL, "email": email})
    refused(ClaimMapping(email_domains=frozenset()), **EMAIL)


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        identity().facts["aws:userid"] = "x"  # type: ignore[index]


def test_exp_is_read_with_the_leeway() -> None:
    assert identity(exp=NOW_S).expires_at == NOW + timedelta(seconds=60)
