"""Every field about callers wrong, one at a time: one problem, at its place, in these words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sample import WHOLE, broken, loaded, problems
from ztproxy.config.caller import Authenticate

WRONG = [
    # what stands in the sample, what takes its place (§: where the problem is), what is said of it
    (
        "  - name: corp",
        "  - name: §sigv4",
        "issuers.0.name: is a word of `authenticate` itself; choose another name (got `sigv4`)",
    ),
    (
        "issuer: https://login.example.com",
        "issuer: §http://login.example.com",
        "issuers.0.issuer: must use https, as it does not stay on this machine (got `http://login.example.com`)",
    ),
    (
        "issuer: https://login.example.com",
        "issuer: §login.example.com",
        ("issuers.0.issuer: must be the issuer's URL, such as `https://login.example.com` (got `login.example.com`)"),
    ),
    (
        "issuer: https://login.example.com",
        "issuer: §https://a:b@login.example.com",
        "issuers.0.issuer: must not hold a user or password",
    ),
    (
        "issuer: https://login.example.com",
        "issuer: §https://login.example.com?x=1",
        "issuers.0.issuer: must have neither a query nor a fragment",
    ),
    (
        "issuer: https://login.example.com",
        "issuer: §https://login.example.com:port",
        "issuers.0.issuer: must be the issuer's URL, such as `https://login.example.com`",
    ),
    ("audiences: [api://orders]", "audiences: §[]", "issuers.0.audiences: must not be empty"),
    (
        "audiences: [api://orders]",
        "audiences: [§'*']",
        "issuers.0.audiences.0: is compared exactly; `*` has no meaning here (got `*`)",
    ),
    ("audiences: [api://orders]", "audiences: [§'']", "issuers.0.audiences.0: must not be empty"),
    ("audiences: [api://orders]", "audiences: §api://orders", "issuers.0.audiences: must be a list (got text)"),
    (
        "algorithms: [RS256]",
        "algorithms: [§HS256]",
        (
            "issuers.0.algorithms.0: must be one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, "
            "`ES256`, `ES384`, `EdDSA` (got `HS256`)"
        ),
    ),
    (
        "algorithms: [RS256]",
        "algorithms: [§none]",
        (
            "issuers.0.algorithms.0: must be one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, "
            "`ES256`, `ES384`, `EdDSA` (got `none`)"
        ),
    ),
    ("algorithms: [RS256]", "algorithms: §[]", "issuers.0.algorithms: must not be empty"),
    ("leeway_s: 60", "leeway_s: §600", "issuers.0.leeway_s: must be at most 60 (got 600)"),
    ("leeway_s: 60", "leeway_s: §-1", "issuers.0.leeway_s: must be at least 0 (got -1)"),
    ("leeway_s: 60", "leeway_s: §1.5", "issuers.0.leeway_s: must be a whole number (got 1.5)"),
    ("{subject: sub", "{subject: §''", "issuers.0.claims.subject: must not be empty"),
    ("groups: groups", "groups: §[groups]", "issuers.0.claims.groups: must be text (got a list)"),
    (
        "tags: {team: department}",
        "tags: {team: §5}",
        "issuers.0.claims.tags.team: must be text; put it in quotes (got 5)",
    ),
    ("tags: {team: department}", "tags: §department", "issuers.0.claims.tags: must be a mapping (got text)"),
    (
        "jwks: https://login.example.com/keys",
        "jwks: §http://login.example.com/keys",
        ("issuers.0.jwks: must use https, as it does not stay on this machine (got `http://login.example.com/keys`)"),
    ),
    (
        "jwks: https://login.example.com/keys",
        "jwks: §keys.json",
        "issuers.0.jwks: must be a reference to a file, `file:<path>`",
    ),
    (
        "    ca: file:tls/staff-ca.pem\na",
        "    ca: §https://ca\na",
        "issuers.0.ca: must be a reference to a file, `file:<path>`",
    ),
    ("id: EXAMPLEKEY", "id: §short", "access_keys.0.id: must be 8 to 128 letters, digits or `_` (got `short`)"),
    (
        "secret: file:keys/ci.secret",
        "secret: §hunter2hunter2",
        (
            "access_keys.0.secret: must be a reference, `env:<name>` or `file:<path>`; a secret is never written "
            "into the file"
        ),
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §12345678",
        (
            "access_keys.0.secret: must be a reference, `env:<name>` or `file:<path>`; a secret is never written "
            "into the file"
        ),
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §0012345678",
        (
            "access_keys.0.secret: YAML readers disagree on this number; put text in quotes, write numbers in "
            "plain digits"
        ),
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §{value: hunter2}",
        (
            "access_keys.0.secret: must be a reference, `env:<name>` or `file:<path>`; a secret is never written "
            "into the file"
        ),
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §ssm:/ci",
        "access_keys.0.secret: `ssm:` references arrive with a later version; use `env:` or `file:`",
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §secretsmanager:ci",
        "access_keys.0.secret: `secretsmanager:` references arrive with a later version; use `env:` or `file:`",
    ),
    (
        "secret: file:keys/ci.secret",
        "secret: §'env:1X'",
        "access_keys.0.secret: `env:` must be followed by the name of a variable",
    ),
    ("secret: file:keys/ci.secret", "secret: §'file:'", "access_keys.0.secret: the path is empty"),
    (
        "user: ci,",
        "user: §a/b,",
        "access_keys.0.user: must be an IAM user name: 1 to 64 letters, digits or `+=,.@_-` (got `a/b`)",
    ),
    ("groups: [build]", "groups: [§5]", "access_keys.0.groups.0: must be text; put it in quotes (got 5)"),
    (
        "tags: {team: platform}",
        "tags: {§'*': x}",
        "access_keys.0.tags.*: is compared exactly; `*` has no meaning here (got `*`)",
    ),
    ("regions: [eu-west-1]", "regions: §[]", "sigv4.regions: must not be empty"),
    (
        "services: [execute-api]",
        "services: [§'*']",
        "sigv4.services.0: must be a service name, such as `execute-api` (got `*`)",
    ),
    ("skew_s: 300", "skew_s: §3600", "sigv4.skew_s: must be at most 900 (got 3600)"),
    (
        "{issuer: corp, group: dev",
        "{issuer: §5, group: dev",
        "grants.0.match.issuer: must be text; put it in quotes (got 5)",
    ),
    ("group: dev", "group: §'dev*'", "grants.0.match.group: is compared exactly; `*` has no meaning here (got `dev*`)"),
    ("subject: ada", "subject: §''", "grants.0.match.subject: must not be empty"),
    (
        'spiffe: "spiffe://prod.example.com/billing"',
        "spiffe: §spiffe://prod.example.com",
        (
            "grants.1.match.spiffe: must be a SPIFFE ID, `spiffe://<trust domain>/<path>` (got "
            "`spiffe://prod.example.com`)"
        ),
    ),
    (
        'principal: "arn:aws:iam::111122223333:user/ci"',
        "principal: §ci",
        "grants.1.match.principal: must be the whole ARN of a principal, without `*` (got `ci`)",
    ),
    ("group: dev", "§groups: dev", "grants.0.match.groups: unknown key; did you mean `group`?"),
    (
        "subject: ada}\n    policies: [policies/dev.yaml]",
        "subject: ada}\n    policies: §[]",
        "grants.0.policies: must not be empty",
    ),
    (
        "subject: ada}\n    policies: [policies/dev.yaml]",
        "subject: ada}\n    policies: [§file:policies/dev.yaml]",
        "grants.0.policies.0: must be a plain path, without `file:` (got `file:policies/dev.yaml`)",
    ),
    (
        "authenticate: {all_of: [certificate], any_of: [corp, sigv4]}",
        "authenticate: §anyone",
        "routes.0.authenticate: must be `none`, or a mapping with `all_of` or `any_of` (got `anyone`)",
    ),
    (
        "authenticate: {all_of: [certificate], any_of: [corp, sigv4]}",
        "authenticate: {§all: [corp]}",
        "routes.0.authenticate.all: unknown key; did you mean `all_of`?",
    ),
    (
        "authenticate: {all_of: [certificate], any_of: [corp, sigv4]}",
        "authenticate: {any_of: §[]}",
        "routes.0.authenticate.any_of: must not be empty",
    ),
    (
        "authenticate: {all_of: [certificate], any_of: [corp, sigv4]}",
        "authenticate: {any_of: §[corp, corp]}",
        "routes.0.authenticate.any_of: holds `corp` twice",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_field_gets_one_line(folder: Path, old: str, new: str, message: str) -> None:
    text, place = broken(old, new)
    assert problems(folder, text) == [f"{place}: {message}"]


def test_defaults_are_the_documented_ones(folder: Path) -> None:
    text = WHOLE
    for line in (
        "    algorithms: [RS256]\n",
        "    leeway_s: 60\n",
        "    claims: {subject: sub, groups: groups, tags: {team: department}}\n",
        "sigv4: {regions: [eu-west-1], services: [execute-api], skew_s: 300}\n",
    ):
        assert line in text
        text = text.replace(line, "")
    config = loaded(folder, text.replace("region: eu-west-1", "region: eu-central-1"))
    issuer = config.issuers[0]
    assert (issuer.algorithms, issuer.leeway_s) == (("RS256", "ES256"), 60)
    assert (issuer.claims.subject, issuer.claims.groups, issuer.claims.tags) == ("sub", "groups", {})
    assert (config.sigv4_regions, config.sigv4.services, config.sigv4.skew_s) == (
        ("eu-central-1",),
        ("execute-api",),
        300,
    )


def test_authenticate_has_two_forms(folder: Path) -> None:
    rule = loaded(folder, WHOLE).routes[0].authenticate
    assert rule == Authenticate(all_of=("certificate",), any_of=("corp", "sigv4"))
    open_to_all = WHOLE.replace("{all_of: [certificate], any_of: [corp, sigv4]}", "none")
    assert loaded(folder, open_to_all).routes[0].authenticate == "none"


def test_keys_may_come_from_a_url_on_this_machine(folder: Path) -> None:
    text = WHOLE.replace("jwks: https://login.example.com/keys", "jwks: http://127.0.0.1:9100/keys")
    assert loaded(folder, text).issuers[0].jwks == "http://127.0.0.1:9100/keys"
