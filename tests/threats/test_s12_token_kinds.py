"""S12: a token made for one purpose is taken by an API for another. Kinds differ by `typ` and `aud`; here every kind
that issuers are known to sign with the same keys meets every reader, and only its own takes it."""

from __future__ import annotations

import pytest

from tests.authn.tokens import AUDIENCE, ISSUER, KEYS, NOW, claims, token
from ztproxy.authn.jose import read_compact
from ztproxy.authn.jwt import TokenRules, verify
from ztproxy.errors import Unauthenticated

KINDS = {
    "bearer": ("JWT", AUDIENCE),
    "access": ("at+jwt", AUDIENCE),
    "other-api": ("JWT", "api://billing"),
    "other-access": ("at+jwt", "api://billing"),
    "proof-of-possession": ("dpop+jwt", AUDIENCE),
    "logout": ("logout+jwt", AUDIENCE),
    "security-event": ("secevent+jwt", AUDIENCE),
    "introspection": ("token-introspection+jwt", AUDIENCE),
    "client-assertion": ("client-authentication+jwt", AUDIENCE),
    "key-binding": ("kb+jwt", AUDIENCE),
    "our-own-upstream-identity": ("ztproxy-identity+jwt", "orders"),
}
READERS = {
    "default": (TokenRules(issuer=ISSUER, audiences=frozenset({AUDIENCE})), {"bearer", "access"}),
    "access-only": (
        TokenRules(issuer=ISSUER, audiences=frozenset({AUDIENCE}), types=frozenset({"at+jwt"}), type_required=True),
        {"access"},
    ),
    "billing": (
        TokenRules(issuer=ISSUER, audiences=frozenset({"api://billing"})),
        {"other-api", "other-access"},
    ),
    "upstream": (
        TokenRules(
            issuer=ISSUER,
            audiences=frozenset({"orders"}),
            types=frozenset({"ztproxy-identity+jwt"}),
            type_required=True,
        ),
        {"our-own-upstream-identity"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_only_its_own_reader_takes_a_token(kind: str, reader: str) -> None:
    typ, audience = KINDS[kind]
    rules, taken = READERS[reader]
    jws = read_compact(token(claims(aud=audience), header={"typ": typ}))
    if kind in taken:
        assert verify(jws, rules, KEYS, NOW)["sub"] == "ada"
        return
    with pytest.raises(Unauthenticated) as caught:
        verify(jws, rules, KEYS, NOW)
    assert caught.value.code in {"authn.token-type", "authn.token-audience"}


@pytest.mark.parametrize(
    "typ", ["application/dpop+jwt", "DPOP+JWT", "jwt;x=1", "at+jwt,jwt", "application/application/jwt"]
)
def test_spellings_do_not_change_the_kind(typ: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(read_compact(token(header={"typ": typ})), READERS["default"][0], KEYS, NOW)
