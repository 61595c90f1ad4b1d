"""Configuration to the nouns of the house: what `app.py` hands to the gate."""

from __future__ import annotations

from ztproxy import types
from ztproxy.config import models
from ztproxy.config.models import Config


def routes_of(config: Config) -> tuple[types.Route, ...]:
    """The routes, in the order written; `upstream` is the URL as written."""
    default = default_rule(config)
    return tuple(_route(config, route, default) for route in config.routes)


def default_rule(config: Config) -> types.AuthenticationRule:
    """What a route without `authenticate` demands: any one way to prove an identity that there is."""
    names = [issuer.name for issuer in config.issuers]
    if config.access_keys:
        names.append("sigv4")
    if any(listener.asks_certificate for listener in config.listeners):
        names.append("certificate")
    return types.AuthenticationRule(any_of=tuple(names))


def rule_of(route: models.Route, default: types.AuthenticationRule) -> types.AuthenticationRule:
    """What this route demands.

    INVARIANT: anonymous only where the route says `none`.
    """
    if route.authenticate is None:
        return default
    if isinstance(route.authenticate, str):
        return types.AuthenticationRule(anonymous=True)
    return types.AuthenticationRule(all_of=route.authenticate.all_of, any_of=route.authenticate.any_of)


def _route(config: Config, route: models.Route, default: types.AuthenticationRule) -> types.Route:
    arn = config.arn
    api_id = route.api_id or route.name
    return types.Route(
        name=route.name,
        host=route.host,
        path=route.path,
        arn=f"arn:{arn.partition}:execute-api:{arn.region}:{arn.account}:{api_id}/{route.stage}",
        account=arn.account,
        upstream=route.upstream.url,
        authenticate=rule_of(route, default),
        audit_required=route.audit == "required",
        deny_detail=None if route.deny_detail is None else types.DenyDetail(route.deny_detail),
        limits=types.RouteLimits(
            body_bytes=route.limits.body_bytes,
            connect_s=route.timeouts.connect_s,
            response_s=route.timeouts.response_s,
            total_s=route.timeouts.total_s,
        ),
    )
