"""Cross-checks: what names nothing, can never hold or has no effect is refused at its place; slips are warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sample import MARK, WHOLE, broken, loaded, problems

RULE = "{all_of: [certificate], any_of: [corp, sigv4]}"
TLS_TAIL = """\
      client_certificates:
        mode: optional
        authorities: [{name: staff, ca: file:tls/staff-ca.pem, spiffe: prod.example.com}]
"""
ACCESS_KEYS = """\
access_keys:
  - {id: EXAMPLEKEY, secret: file:keys/ci.secret, user: ci, groups: [build], tags: {team: platform}}
"""
ISSUERS = WHOLE[WHOLE.index("issuers:\n") : WHOLE.index("access_keys:\n")]
GRANTS = WHOLE[WHOLE.index("grants:\n") : WHOLE.index("routes:\n")]
SECOND_LISTENER = """\
  - name: office
    bind: 127.0.0.1:9443
    protocol: http
    tls: {certificate: file:tls/edge.pem, key: file:tls/edge.key}
network:
"""
SECOND_ROUTE = """\
  - name: other
    host: other.example.com
    policy: policies/orders.yaml
    upstream: {url: http://127.0.0.1:9000}
audit: {spool
"""


def second_listener(old: str, new: str) -> str:
    return SECOND_LISTENER.replace(old, new)


def second_route(old: str, new: str) -> str:
    return SECOND_ROUTE.rstrip("\n").replace(old, new)


WRONG = [
    # names
    ("network:\n", second_listener("office", "§edge"), "listeners.1.name: another listener is already `edge`"),
    (
        "access_keys:\n",
        "  - {name: §corp, issuer: https://b.example.com, audiences: [x]}\naccess_keys:\n",
        "issuers.1.name: another issuer is already `corp`",
    ),
    (
        "access_keys:\n",
        "  - {name: b, issuer: §https://login.example.com, audiences: [x]}\naccess_keys:\n",
        "issuers.1.issuer: another issuer's URL is already `https://login.example.com`",
    ),
    (
        "sigv4:",
        "  - {id: §EXAMPLEKEY, secret: file:keys/ci.secret, user: cd}\nsigv4:",
        "access_keys.1.id: another access key is already `EXAMPLEKEY`",
    ),
    ("audit: {spool", second_route("other\n", "§orders\n"), "routes.1.name: another route is already `orders`"),
    (
        "[admin.example.com]",
        "[admin.example.com], certificate: file:tls/admin.pem, key: file:tls/admin.key}, {names: [§admin.example.com]",
        "listeners.0.tls.more.1.names.0: another certificate's name is already `admin.example.com`",
    ),
    (
        "spiffe: prod.example.com}]",
        "spiffe: prod.example.com}, {name: §staff, ca: file:tls/partner-ca.pem}]",
        "listeners.0.tls.client_certificates.authorities.1.name: another authority is already `staff`",
    ),
    # sockets
    (
        "network:\n",
        second_listener("127.0.0.1:9443", "§127.0.0.1:8443"),
        "listeners.1.bind: listener `edge` already listens on `127.0.0.1:8443`",
    ),
    (
        "network:\n",
        second_listener("127.0.0.1:9443", "§0.0.0.0:8443"),
        "listeners.1.bind: listener `edge` already listens on `127.0.0.1:8443`",
    ),
    # PROXY header
    (
        "proxy_protocol: {mode: required, trusted: [10.0.0.0/16]}",
        "proxy_protocol: §{mode: required}",
        "listeners.0.proxy_protocol: `trusted` must name the load balancers whose header is believed",
    ),
    (
        "proxy_protocol: {mode: required, trusted: [10.0.0.0/16]}",
        "proxy_protocol: {trusted: §[10.0.0.0/16]}",
        "listeners.0.proxy_protocol.trusted: has no effect while the mode is `off`",
    ),
    # grants
    (
        "match: {issuer: corp, group: dev, subject: ada}",
        "match: §{}",
        "grants.0.match: must name at least one key; an empty match never means everyone",
    ),
    (
        "issuer: corp, group",
        "issuer: §crop, group",
        "grants.0.match.issuer: no issuer is called `crop`; did you mean `corp`?",
    ),
    (
        'spiffe: "spiffe://prod.example.com/billing"',
        'spiffe: §"spiffe://test.example.com/billing"',
        "grants.1.match.spiffe: no authority vouches for the trust domain `test.example.com`",
    ),
    # authenticate
    (
        RULE,
        "{all_of: [certificate], any_of: [§crop]}",
        "routes.0.authenticate.any_of.0: no authenticator is called `crop`; did you mean `corp`?",
    ),
    (
        RULE,
        "{any_of: [§kerberos]}",
        "routes.0.authenticate.any_of.0: no authenticator is called `kerberos`",
    ),
    (RULE, "§{}", "routes.0.authenticate: must name `all_of` or `any_of`; an empty rule never means anyone"),
    (
        RULE,
        "{all_of: [corp], any_of: [§corp, certificate]}",
        "routes.0.authenticate.any_of.0: `corp` is in `all_of` already, which makes `any_of` void",
    ),
    (
        RULE,
        "{all_of: §[corp, sigv4]}",
        "routes.0.authenticate.all_of: no request can carry `corp` and `sigv4` at once",
    ),
    (
        RULE,
        "{all_of: [corp], any_of: §[sigv4]}",
        "routes.0.authenticate.any_of: no request can carry one of these and `corp` at once",
    ),
    # routes, as routing reads them
    ("path: /orders/**", "path: §orders", "routes.0.path: must start with `/`"),
    ("path: /orders/**", "path: §/orders/**/x", "routes.0.path: `**` must be the last segment"),
    (
        "audit: {spool",
        "  - §name: other\n    host: API.example.com\n    path: /orders/**\n    policy: policies/orders.yaml\n"
        "    upstream: {url: http://127.0.0.1:9000}\naudit: {spool",
        "routes.1: overlaps with route `orders`: both answer for host `api.example.com` and path `/orders/**`",
    ),
    # upstream
    (
        "https://orders.internal:8443\n      tls: {",
        "http://127.0.0.1:8443\n      tls: §{",
        "routes.0.upstream.tls: has no effect with an http URL",
    ),
    (
        "tls: {ca: file:tls/staff-ca.pem, certificate: file:tls/us.pem, key",
        "tls: §{ca: file:tls/staff-ca.pem, key",
        "routes.0.upstream.tls: `certificate` and `key` come together",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_contradiction_gets_one_line(folder: Path, old: str, new: str, message: str) -> None:
    text, place = broken(old, new)
    assert problems(folder, text) == [f"{place}: {message}"]


def test_every_authenticator_needs_its_means(folder: Path) -> None:
    without_certificates = WHOLE.replace(TLS_TAIL, "").replace('spiffe: "spiffe://prod.example.com/billing", ', "")
    assert problems(folder, without_certificates) == [
        "40:29: routes.0.authenticate.all_of.0: no listener asks for client certificates"
    ]
    assert problems(folder, without_certificates.replace(RULE, "{any_of: [corp, certificate]}")) == [
        "40:35: routes.0.authenticate.any_of.1: no listener asks for client certificates"
    ]
    assert problems(folder, WHOLE.replace(ACCESS_KEYS, "")) == [
        "41:58: routes.0.authenticate.any_of.1: there are no `access_keys` to verify signatures with"
    ]


def test_asking_for_certificates_needs_an_authority(folder: Path) -> None:
    text = WHOLE.replace(TLS_TAIL, "      client_certificates: {mode: required}\n")
    text = text.replace('spiffe: "spiffe://prod.example.com/billing", ', "")
    assert problems(folder, text) == [
        "13:28: listeners.0.tls.client_certificates: `authorities` must name at least one, or the mode be `off`"
    ]


def test_authorities_have_no_effect_while_off(folder: Path) -> None:
    text = WHOLE.replace("mode: optional", "mode: off").replace(RULE, "{any_of: [corp, sigv4]}")
    assert problems(folder, text) == [
        "15:22: listeners.0.tls.client_certificates.authorities: has no effect while the mode is `off`"
    ]


def test_route_nobody_could_enter_is_refused(folder: Path) -> None:
    text = WHOLE.replace(TLS_TAIL, "").replace(ACCESS_KEYS, "").replace(ISSUERS, "").replace(GRANTS, "")
    text = text.replace(f"    authenticate: {RULE}\n", "")
    assert problems(folder, text) == [
        "19:5: routes.0: nobody could sign in: there is no issuer, no access key and no listener that asks certificates"
    ]


def test_policy_may_be_absent_only_where_grants_can_allow(folder: Path) -> None:
    without = WHOLE.replace("    policy: policies/orders.yaml\n", "")
    assert problems(folder, without) == []
    assert problems(folder, without.replace(GRANTS, "")) == [
        "33:5: routes.0: `policy` is required, as there are no `grants`: nothing could ever be allowed"
    ]
    assert problems(folder, without.replace(RULE, "none")) == [
        "38:5: routes.0: `policy` is required, as no grant is for anonymous callers"
    ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("127.0.0.1:8443", "127.0.0.2:8443", False),
        ("127.0.0.1:8443", "127.0.0.1:8444", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:8443", '"[::]:8443"', False),
        ('"[::]:8443"', '"[::1]:8443"', True),
        ('"[::1]:8443"', '"[0:0::1]:8443"', True),
    ],
)
def test_sockets_that_cannot_both_be_bound(folder: Path, first: str, second: str, same: bool) -> None:
    text = WHOLE.replace("127.0.0.1:8443", first).replace("network:\n", second_listener("127.0.0.1:9443", second))
    assert (problems(folder, text) != []) is same


def warnings(folder: Path, text: str) -> list[str]:
    return [f"{w.line}:{w.column}: {w.message}" for w in loaded(folder, text).warnings]


WARNED = [
    (RULE, "§none", "routes.0.authenticate: lets anyone ask; only the policy stands before the upstream"),
    (
        "trusted: [10.0.0.0/16]",
        "trusted: [§0.0.0.0/0]",
        "listeners.0.proxy_protocol.trusted.0: believes everyone who can connect about who they are",
    ),
    (
        "{mode: required, trusted: [10.0.0.0/16]}\n",
        "{mode: off}\n",
        "network.vpc_endpoints: has no effect, as no listener reads PROXY headers",
    ),
    (
        "issuer: corp, group: dev, subject: ada",
        "group: §dev",
        "grants.0.match.group: holds for every way to sign in; add `issuer` to mean one",
    ),
    (RULE, "{all_of: [certificate], any_of: [corp]}", "access_keys: no route accepts `sigv4`"),
    (RULE, "{all_of: [certificate], any_of: [sigv4]}", "issuers.0: no route accepts tokens of `corp`"),
    (
        RULE,
        "{any_of: [corp, sigv4]}",
        "listeners.0.tls.client_certificates: no route accepts `certificate`",
    ),
    (
        "https://orders.internal:8443\n      tls: {ca: file:tls/staff-ca.pem, certificate: file:tls/us.pem, "
        "key: file:tls/us.key, server_name: orders.internal}\n",
        "§http://orders.internal:8443\n",
        "routes.0.upstream.url: requests leave this machine unencrypted",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WARNED)
def test_slip_is_legal_and_flagged(folder: Path, old: str, new: str, message: str) -> None:
    assert WHOLE.count(old) == 1
    found = warnings(folder, WHOLE.replace(old, new.replace(MARK, "")))
    assert message in [line.partition(": ")[2] for line in found]
    if MARK in new:
        text, place = broken(old, new)
        assert f"{place}: {message}" in warnings(folder, text)


def test_sound_configuration_has_no_warnings(folder: Path) -> None:
    assert warnings(folder, WHOLE) == []
    default_rule = WHOLE.replace(f"    authenticate: {RULE}\n", "")
    assert warnings(folder, default_rule) == []


def test_warnings_come_in_the_order_of_the_file(folder: Path) -> None:
    text = WHOLE.replace(RULE, "{any_of: [sigv4]}").replace("[10.0.0.0/16]", '["::/0"]')
    assert [line.partition(":")[0] for line in warnings(folder, text)] == ["7", "14", "21"]
