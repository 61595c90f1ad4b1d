"""Whose proof counts on a route: the rules, a token and a certificate together, and no way back to a weaker proof."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import unquote

import orjson
import pytest

from tests.authn.tokens import NETWORK, NOW, stepped
from ztproxy.authn.chain import AuthenticationChain, anonymous, joined, upstream_headers
from ztproxy.errors import Unauthenticated
from ztproxy.ports import Authenticator
from ztproxy.types import (
    AuthenticationRule,
    Evidence,
    Identity,
    NetworkContext,
    PresentedCertificate,
    Secret,
    SignedRequest,
)

CERTIFICATE = PresentedCertificate(der=b"der", authority="staff", chain_expires_at=NOW + timedelta(hours=1))
SIGNED = SignedRequest(method="GET", raw_target=b"/", raw_headers=())


def identity(
    kind: str, *, subject: str = "ada", ends_in_s: int = 600, groups: tuple[str, ...] = (), **facts: str
) -> Identity:
    return Identity(
        subject=subject,
        kind=kind,
        issuer=f"{kind} issuer",
        method=kind,
        authenticated_at=NOW,
        expires_at=NOW + timedelta(seconds=ends_in_s),
        groups=groups,
        principals=(f"Federated:{kind}",),
        facts=MappingProxyType(facts),
    )


class Scripted:
    """An authenticator that recognises its kind of evidence and answers as told."""

    def __init__(self, name: str, answer: Identity | Unauthenticated, *, recognises: bytes | None = None) -> None:
        self.name = name
        self.answer = answer
        self.asked = 0
        self._recognises = recognises

    def recognises(self, evidence: Evidence) -> bool:
        if self.name == "sigv4":
            return evidence.signed is not None
        return evidence.bearer is not None and self._recognises in (None, evidence.bearer.reveal())

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        assert (network, now) == (NETWORK, NOW)
        self.asked += 1
        if isinstance(self.answer, Unauthenticated):
            raise self.answer
        return self.answer


class World:
    """Four authenticators, and what a rule makes of some evidence."""

    def __init__(self) -> None:
        self.certificate = Scripted(
            "certificate", identity("certificate", subject="spiffe://a/ada", ends_in_s=300, cn="ada", both="cert")
        )
        self.corp = Scripted("corp", identity("jwt", groups=("dev",), dept="x", both="token"), recognises=b"corp")
        self.other = Scripted("other", identity("jwt", subject="eve"), recognises=b"other")
        self.sigv4 = Scripted("sigv4", identity("sigv4", subject="ci"))
        authenticators: list[Authenticator] = [self.corp, self.certificate, self.other, self.sigv4]
        self.chain = AuthenticationChain(authenticators)

    def identify(
        self,
        *,
        all_of: tuple[str, ...] = (),
        any_of: tuple[str, ...] = (),
        anonymous: bool = False,
        cert: bool = False,
        token: bytes | None = None,
        signed: bool = False,
    ) -> Identity:
        evidence = Evidence(
            certificate=CERTIFICATE if cert else None,
            bearer=None if token is None else Secret(token),
            signed=SIGNED if signed else None,
        )
        rule = AuthenticationRule(all_of=all_of, any_of=any_of, anonymous=anonymous)
        return stepped(self.chain.identify(rule, evidence, NETWORK, NOW))

    def refusal(self, **how: object) -> str:
        with pytest.raises(Unauthenticated) as refused:
            self.identify(**how)  # type: ignore[arg-type]
        return refused.value.code


ANY = ("corp", "sigv4")


@pytest.mark.parametrize(
    ("all_of", "any_of", "cert", "token", "signed", "expected"),
    [
        # any_of: one is enough, whichever it is.
        ((), ANY, False, b"corp", False, "jwt"),
        ((), ANY, False, None, True, "sigv4"),
        ((), (*ANY, "certificate"), True, None, False, "certificate"),
        ((), (*ANY, "certificate"), False, b"corp", False, "jwt"),
        # all_of: each of them; a certificate joins whatever credential comes.
        (("certificate",), (), True, None, False, "certificate"),
        (("corp",), (), False, b"corp", False, "jwt"),
        (("certificate", "corp"), (), True, b"corp", False, "jwt+certificate"),
        (("certificate",), ANY, True, b"corp", False, "jwt+certificate"),
        (("certificate",), ANY, True, None, True, "sigv4+certificate"),
        (("corp",), ("certificate",), True, b"corp", False, "jwt+certificate"),
        # A certificate that nobody asked for is a fact all the same.
        ((), ANY, True, b"corp", False, "jwt+certificate"),
        # A token that nobody asked for is none.
        (("certificate",), (), True, b"corp", False, "certificate"),
        ((), ("certificate",), True, None, True, "certificate"),
    ],
)
def test_what_satisfies_a_rule(
    all_of: tuple[str, ...], any_of: tuple[str, ...], cert: bool, token: bytes | None, signed: bool, expected: str
) -> None:
    assert World().identify(all_of=all_of, any_of=any_of, cert=cert, token=token, signed=signed).method == expected


@pytest.mark.parametrize(
    ("all_of", "any_of", "cert", "token", "signed", "code"),
    [
        ((), ANY, False, None, False, "authn.missing"),
        ((), ANY, True, None, False, "authn.missing"),
        ((), (*ANY, "certificate"), False, None, False, "authn.missing"),
        ((), ("certificate",), False, b"corp", False, "authn.missing"),
        (("certificate",), (), False, None, False, "authn.certificate-missing"),
        (("certificate",), ANY, False, b"corp", False, "authn.certificate-missing"),
        (("certificate",), ANY, True, None, False, "authn.missing"),
        (("corp",), (), True, None, False, "authn.missing"),
        (("corp",), ("sigv4",), False, b"corp", False, "authn.missing"),
        (("corp", "sigv4"), (), False, b"corp", False, "authn.missing"),
        (("corp",), ("certificate",), False, b"corp", False, "authn.missing"),
        # Credentials of a kind the route knows, from someone it does not.
        ((), ("corp",), False, b"other", False, "authn.token-issuer"),
        ((), ("corp", "certificate"), True, b"other", False, "authn.token-issuer"),
        ((), ("sigv4", "certificate"), True, b"corp", False, "authn.token-issuer"),
        ((), ("corp",), False, None, True, "authn.missing"),
        ((), ("corp", "certificate"), True, None, True, "authn.missing"),
        # Two at once.
        ((), ANY, False, b"corp", True, "authn.ambiguous"),
        # A rule that names nobody lets nobody in (S14).
        ((), (), False, None, False, "authn.missing"),
        ((), (), False, b"corp", False, "authn.missing"),
    ],
)
def test_what_does_not(
    all_of: tuple[str, ...], any_of: tuple[str, ...], cert: bool, token: bytes | None, signed: bool, code: str
) -> None:
    assert World().refusal(all_of=all_of, any_of=any_of, cert=cert, token=token, signed=signed) == code


def test_a_credential_that_fails_is_a_refusal_where_the_certificate_alone_would_do() -> None:
    world = World()
    world.corp.answer = Unauthenticated("authn.token-expired", "the token has expired")
    assert world.refusal(any_of=("certificate", "corp"), cert=True, token=b"corp") == "authn.token-expired"


def test_a_certificate_that_fails_is_a_refusal_where_the_token_alone_would_do() -> None:
    world = World()
    world.certificate.answer = Unauthenticated("authn.certificate-expired", "outside its validity")
    assert world.refusal(any_of=("certificate", "corp"), cert=True, token=b"corp") == "authn.certificate-expired"
    assert world.corp.asked == 0


def test_only_the_issuer_that_recognises_a_token_is_asked() -> None:
    world = World()
    assert world.identify(any_of=("corp", "other"), token=b"other").subject == "eve"
    assert (world.corp.asked, world.other.asked) == (0, 1)


def test_an_issuer_the_route_does_not_name_is_never_asked() -> None:
    world = World()
    world.refusal(any_of=("corp",), token=b"other")
    assert world.other.asked == 0


def test_a_listener_without_certificates_has_no_authenticator_for_them() -> None:
    chain = AuthenticationChain([World().corp])
    rule = AuthenticationRule(all_of=("certificate",))
    with pytest.raises(Unauthenticated) as refused:
        stepped(chain.identify(rule, Evidence(certificate=CERTIFICATE), NETWORK, NOW))
    assert refused.value.code == "authn.certificate-missing"


def test_token_and_certificate_become_one_identity() -> None:
    world = World()
    both = world.identify(all_of=("certificate", "corp"), cert=True, token=b"corp")
    assert (both.subject, both.kind, both.issuer, both.groups) == ("ada", "jwt", "jwt issuer", ("dev",))
    assert both.principals == ("Federated:jwt",)
    assert dict(both.facts) == {"cn": "ada", "dept": "x", "both": "token"}
    assert both.expires_at == NOW + timedelta(seconds=300)


@pytest.mark.parametrize(("token_s", "certificate_s"), [(100, 200), (200, 100)])
def test_it_ends_with_the_earlier_of_the_two(token_s: int, certificate_s: int) -> None:
    both = joined(identity("jwt", ends_in_s=token_s), identity("certificate", ends_in_s=certificate_s))
    assert both.expires_at == NOW + timedelta(seconds=100)


def test_it_is_made_once_for_each_pair() -> None:
    world = World()
    both = {"any_of": ANY, "cert": True, "token": b"corp"}
    first = world.identify(**both)  # type: ignore[arg-type]
    assert world.identify(**both) is first  # type: ignore[arg-type]
    alone = world.identify(any_of=ANY, token=b"corp")
    assert alone is not first
    assert alone.method == "jwt"
    renewed = identity("certificate", ends_in_s=60)
    world.certificate.answer = renewed
    assert world.identify(**both).expires_at == renewed.expires_at  # type: ignore[arg-type]


def test_a_new_identity_of_the_same_look_is_not_the_old_one() -> None:
    """An id of an object may be given to another once it is gone; an entry therefore holds its objects."""
    world = World()
    seen = set()
    for number in range(200):
        world.corp.answer = identity("jwt", subject=f"caller {number}")
        found = world.identify(any_of=ANY, token=b"corp")
        assert found.subject == f"caller {number}"
        seen.add(dict(found.upstream_headers)[b"X-Ztproxy-Subject"])
    assert len(seen) == 200


def test_the_finished_identities_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztproxy.authn.chain._MOST_FINISHED", 2)
    world = World()
    for number in [0, 1, 2, 3, 0]:
        world.corp.answer = identity("jwt", subject=str(number))
        assert world.identify(any_of=ANY, token=b"corp").subject == str(number)


class Confirming(Scripted):
    """One whose proof can be asked for again."""

    holds = True

    def confirms(self, evidence: Evidence, now: datetime) -> bool:
        return self.holds


class Standing:
    """A chain of one authenticator, and whether what was proven before still stands."""

    def __init__(self, *, ends_in_s: int = 600) -> None:
        self.corp = Confirming("corp", identity("jwt", ends_in_s=ends_in_s))
        self.chain = AuthenticationChain([self.corp])
        self.rule = AuthenticationRule(any_of=("corp",))
        self.evidence = Evidence(bearer=Secret(b"corp"))
        self.identity = stepped(self.chain.identify(self.rule, self.evidence, NETWORK, NOW))

    def stands(
        self, *, rule: AuthenticationRule | None = None, evidence: Evidence | None = None, in_s: int = 0
    ) -> bool:
        found = self.chain.standing(rule or self.rule, evidence or self.evidence, NOW + timedelta(seconds=in_s))
        assert found in (None, self.identity)
        return found is self.identity


def test_what_this_very_evidence_proved_under_this_rule_stands() -> None:
    proven = Standing()
    assert proven.stands()
    assert proven.corp.asked == 1


def test_other_evidence_or_another_rule_proves_for_itself() -> None:
    """Equal is not the same: what the same token proved elsewhere is another question (S06)."""
    proven = Standing()
    assert not proven.stands(evidence=Evidence(bearer=Secret(b"corp")))
    assert not proven.stands(evidence=Evidence(certificate=CERTIFICATE, bearer=proven.evidence.bearer))
    assert not proven.stands(rule=AuthenticationRule(any_of=("corp",), all_of=("certificate",)))
    assert proven.stands()


def test_it_falls_with_the_identity_it_gave() -> None:
    proven = Standing(ends_in_s=60)
    assert proven.stands(in_s=59)
    assert not proven.stands(in_s=60)


def test_it_falls_when_its_authenticator_takes_it_back() -> None:
    proven = Standing()
    proven.corp.holds = False
    assert not proven.stands()
    proven.corp.holds = True
    assert not proven.stands()


def test_an_authenticator_that_cannot_confirm_is_asked_every_time() -> None:
    world = World()
    rule, evidence = AuthenticationRule(any_of=ANY), Evidence(signed=SIGNED)
    stepped(world.chain.identify(rule, evidence, NETWORK, NOW))
    assert world.chain.standing(rule, evidence, NOW) is None


def test_a_refusal_is_never_remembered() -> None:
    proven = Standing()
    other = Evidence(bearer=Secret(b"corp"))
    proven.corp.answer = Unauthenticated("authn.token-expired", "the token has expired")
    with pytest.raises(Unauthenticated):
        stepped(proven.chain.identify(proven.rule, other, NETWORK, NOW))
    assert not proven.stands(evidence=other)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztproxy.authn.chain._MOST_FINISHED", 2)
    proven = Standing()
    for _ in range(2):
        stepped(proven.chain.identify(proven.rule, Evidence(bearer=Secret(b"corp")), NETWORK, NOW))
    assert not proven.stands()


def test_anyone_is_nobody_and_no_evidence_is_looked_at() -> None:
    world = World()
    nobody = world.identify(anonymous=True, cert=True, token=b"corp")
    assert (nobody.kind, nobody.subject, nobody.principals, nobody.groups) == ("anonymous", "anonymous", (), ())
    assert nobody.upstream_headers == ()
    assert nobody.facts["aws:principaltype"] == "Anonymous"
    assert (world.certificate.asked, world.corp.asked) == (0, 0)


def test_nobody_never_runs_out() -> None:
    assert anonymous(NOW).expires_at > datetime(9999, 1, 1, tzinfo=UTC)


def fields(**changes: object) -> dict[bytes, bytes]:
    who = identity("jwt", subject=str(changes.get("subject", "ada")), groups=changes.get("groups", ()))  # type: ignore[arg-type]
    return dict(upstream_headers(who))


def test_the_upstream_learns_who_it_is() -> None:
    world = World()
    found = world.identify(any_of=ANY, cert=True, token=b"corp")
    assert found.upstream_headers == (
        (b"X-Ztproxy-Subject", b"ada"),
        (b"X-Ztproxy-Issuer", b"jwt%20issuer"),
        (b"X-Ztproxy-Method", b"jwt+certificate"),
        (b"X-Ztproxy-Groups", b'["dev"]'),
    )


@pytest.mark.parametrize(
    ("subject", "sent"),
    [
        ("auth0|1", b"auth0%7C1"),
        ("spiffe://prod.example.com/billing", b"spiffe://prod.example.com/billing"),
        ("arn:aws:iam::111122223333:user/ci", b"arn:aws:iam::111122223333:user/ci"),
        ("zoë", b"zo%C3%AB"),
        ("a\r\nX-Ztproxy-Subject: root", b"a%0D%0AX-Ztproxy-Subject:%20root"),
        ("100%", b"100%25"),
        ("a%2Fb", b"a%252Fb"),
        ("", b""),
    ],
)
def test_a_subject_is_visible_ascii_and_can_be_read_back(subject: str, sent: bytes) -> None:
    assert fields(subject=subject)[b"X-Ztproxy-Subject"] == sent
    assert unquote(sent.decode()) == subject


@pytest.mark.parametrize(
    "groups",
    [(), ("dev",), ("a,b", "c"), ('quo"te', "back\\slash"), ("zoë", "日本"), ("x\r\ny: z", "%41"), ("{}", " ")],
)
def test_groups_are_a_json_list_so_that_no_comma_makes_a_second_one(groups: tuple[str, ...]) -> None:
    sent = fields(groups=groups)[b"X-Ztproxy-Groups"]
    assert all(0x20 <= byte < 0x7F for byte in sent)
    assert tuple(orjson.loads(unquote(sent.decode()))) == groups
