"""Routes as the gate gets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.config.sample import WHOLE, loaded
from ztproxy.config import routes_of
from ztproxy.config.routes import default_rule
from ztproxy.types import AuthenticationRule, DenyDetail, Route, RouteLimits

RULE = "    authenticate: {all_of: [certificate], any_of: [corp, sigv4]}\n"


def test_every_key_arrives(folder: Path) -> None:
    text = WHOLE.replace("connect_s: 3, response_s: 60, total_s: 300", "connect_s: 1.5, response_s: 30, total_s: 90")
    text = text.replace("api_id: orders", "api_id: a1b2c3d4e5").replace("body_bytes: 10485760", "body_bytes: 5")
    assert routes_of(loaded(folder, text)) == (
        Route(
            name="orders",
            host="api.example.com",
            path="/orders/**",
            arn="arn:aws:execute-api:eu-west-1:111122223333:a1b2c3d4e5/prod",
            account="111122223333",
            upstream="https://orders.internal:8443",
            authenticate=AuthenticationRule(all_of=("certificate",), any_of=("corp", "sigv4")),
            audit_required=True,
            deny_detail=DenyDetail.REASON,
            limits=RouteLimits(body_bytes=5, connect_s=1.5, response_s=30, total_s=90),
        ),
    )


def test_defaults_are_those_of_the_noun(folder: Path) -> None:
    text = WHOLE.replace("    api_id: orders\n    host: api.example.com\n    path: /orders/**\n", '    host: "*"\n')
    text = text.replace("    stage: prod\n", "").replace("    audit: required\n    deny_detail: reason\n", "")
    text = text.replace("    timeouts: {connect_s: 3, response_s: 60, total_s: 300}\n", "")
    text = text.replace("    limits: {body_bytes: 10485760}\n", "")
    (route,) = routes_of(loaded(folder, text))
    bare = Route(
        name="orders",
        host="*",
        path="/**",
        arn="arn:aws:execute-api:eu-west-1:111122223333:orders/prod",
        account="111122223333",
        upstream="https://orders.internal:8443",
        authenticate=AuthenticationRule(),
    )
    assert replace(route, authenticate=AuthenticationRule()) == bare


def test_anonymous_only_where_it_is_written(folder: Path) -> None:
    (route,) = routes_of(loaded(folder, WHOLE.replace(RULE, "    authenticate: none\n")))
    assert route.authenticate == AuthenticationRule(anonymous=True)
    (route,) = routes_of(loaded(folder, WHOLE.replace(RULE, "")))
    assert route.authenticate == AuthenticationRule(any_of=("corp", "sigv4", "certificate"))


def test_default_rule_names_what_there_is(folder: Path) -> None:
    keys = WHOLE[WHOLE.index("access_keys:\n") : WHOLE.index("sigv4:")]
    config = loaded(folder, WHOLE.replace(RULE, "").replace(keys, "").replace("authorities: [{", "authorities: [{"))
    assert default_rule(config) == AuthenticationRule(any_of=("corp", "certificate"))
    certificates = WHOLE[WHOLE.index("      client_certificates:\n") : WHOLE.index("    timeouts: {pre_auth_s")]
    text = WHOLE.replace(RULE, "").replace(certificates, "")
    text = text.replace('spiffe: "spiffe://prod.example.com/billing", ', "")
    assert default_rule(loaded(folder, text)) == AuthenticationRule(any_of=("corp", "sigv4"))
