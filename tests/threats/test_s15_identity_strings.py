"""S15: identity strings compared loosely. Ours are compared by code point; what could pass for another is refused."""

from __future__ import annotations

import unicodedata

import pytest

from tests.authn.certificates import der, presented
from tests.authn.tokens import ACCOUNT, ISSUER, KEYS, NOW, claims, token
from ztproxy.authn.claims import ClaimMapping, Federation, token_identity
from ztproxy.authn.jose import read_compact
from ztproxy.authn.jwt import TokenRules, verify
from ztproxy.authn.mtls import certificate_identity
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity

RULES = TokenRules(issuer=ISSUER, audiences=frozenset({"api://orders"}))
FEDERATION = Federation.of(name="corp", issuer=ISSUER, partition="aws", account=ACCOUNT)
LOOKALIKES = [
    "\u202eada",
    "a\u200bda",
    "ada\u00a0",
    "ada ",
    " ada",
    "ada\t",
    "ada\n",
    "ada\x00",
    "ada\u2028",
    "\ufeffada",
    "a\u00adda",
]


def who(mapping: ClaimMapping, **changes: object) -> Identity:
    signed = verify(read_compact(token(claims(**changes))), RULES, KEYS, NOW)
    return token_identity(signed, mapping, FEDERATION, leeway_s=60, now=NOW)


@pytest.mark.parametrize("text", LOOKALIKES)
def test_lookalikes_name_nobody(text: str) -> None:
    for mapping, changes in (
        (ClaimMapping(), {"sub": text}),
        (ClaimMapping(subject="upn"), {"upn": text}),
        (ClaimMapping(), {"groups": ["dev", text]}),
        (ClaimMapping(tags={"team": "team"}), {"team": text}),
        (ClaimMapping(subject="email"), {"email": text + "@example.com", "email_verified": True}),
    ):
        with pytest.raises(Unauthenticated):
            who(mapping, **changes)


@pytest.mark.parametrize("text", LOOKALIKES)
def test_lookalikes_in_a_certificate_name_nobody(text: str) -> None:
    with pytest.raises(Unauthenticated):
        certificate_identity(presented(der(common_names=[text])), NOW)


def test_case_and_normal_form_are_told_apart() -> None:
    composed = unicodedata.normalize("NFC", "Zoë")
    decomposed = unicodedata.normalize("NFD", "Zoë")
    subjects = ["ada", "Ada", "ADA", composed, decomposed]
    assert [who(ClaimMapping(), sub=subject).subject for subject in subjects] == subjects
    assert len({who(ClaimMapping(), sub=subject).facts["login.example.com:sub"] for subject in subjects}) == 5


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com@attacker.example",
        "ada@attacker.example@example.com",
        '"ada@attacker.example"@example.com',
        "ada@attacker.example,ada@example.com",
        "ada@example.com\u3002attacker.example",
        "ada@ex\u0430mple.com",
        "ada@example.com.",
        "ada@sub.example.com",
        "ada@xexample.com",
        "ada@exampleXcom",
    ],
)
def test_an_address_is_of_a_domain_exactly_or_not_at_all(email: str) -> None:
    with pytest.raises(Unauthenticated):
        who(ClaimMapping(email_domains=frozenset({"example.com"})), email=email, email_verified=True)


def test_a_separator_in_a_group_makes_no_second_group() -> None:
    for group in ("dev,admin", "dev admin", "dev;admin", "dev|admin"):
        assert who(ClaimMapping(), groups=group).facts["ztproxy:groups"] == (group,)


def test_an_issuer_is_compared_whole() -> None:
    for issuer in (
        ISSUER + "/",
        ISSUER + ".attacker.example",
        "https://loginXexample.com",
        ISSUER + "#",
        "HTTPS" + ISSUER[5:],
    ):
        with pytest.raises(Unauthenticated):
            who(ClaimMapping(), iss=issuer)
