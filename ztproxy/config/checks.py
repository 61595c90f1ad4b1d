"""Cross-checks: what no key can know alone.

The rule behind them is S14: a restriction that names nothing, can never hold or has no effect is refused, not
ignored. What is legal but usually a slip is a warning. Nothing here opens a socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address

from ztproxy.config import files
from ztproxy.config.addresses import Bind, is_loopback
from ztproxy.config.caller import Authenticate
from ztproxy.config.document import Place
from ztproxy.config.findings import Findings
from ztproxy.config.listener import Listener
from ztproxy.config.models import Config, Route
from ztproxy.config.routes import default_rule, routes_of
from ztproxy.routing import conflicts, pattern_problem


def check(config: Config, now: datetime) -> Findings:
    """All cross-checks, as of `now`."""
    findings = Findings(config)
    _names(config, findings)
    _listeners(config, findings)
    _grants(config, findings)
    _routes(config, findings)
    _unused(config, findings)
    files.check(config, now, findings)
    return findings


def _once(findings: Findings, named: Iterable[tuple[Place, str]], what: str) -> None:
    seen: set[str] = set()
    for place, name in named:
        if name in seen:
            findings.refuse(place, f"another {what} is already `{name}`")
        seen.add(name)


def _names(config: Config, findings: Findings) -> None:
    _once(findings, ((("listeners", i, "name"), e.name) for i, e in enumerate(config.listeners)), "listener")
    _once(findings, ((("issuers", i, "name"), e.name) for i, e in enumerate(config.issuers)), "issuer")
    # A token names its issuer by URL alone: two entries would leave open whose audiences and claims count.
    _once(findings, ((("issuers", i, "issuer"), e.issuer) for i, e in enumerate(config.issuers)), "issuer's URL")
    _once(findings, ((("access_keys", i, "id"), e.id) for i, e in enumerate(config.access_keys)), "access key")
    _once(findings, ((("routes", i, "name"), e.name) for i, e in enumerate(config.routes)), "route")


def _listeners(config: Config, findings: Findings) -> None:
    for index, listener in enumerate(config.listeners):
        place: Place = ("listeners", index)
        for other in config.listeners[:index]:
            if _same_socket(other.bind, listener.bind):
                findings.refuse((*place, "bind"), f"listener `{other.name}` already listens on `{other.bind}`")
        _proxy_protocol(listener, place, findings)
        _server_names(listener, place, findings)
        _client_certificates(listener, place, findings)
    mapped = config.network.vpc_endpoints
    if mapped and all(listener.proxy_protocol.mode == "off" for listener in config.listeners):
        findings.warn(("network", "vpc_endpoints"), "has no effect, as no listener reads PROXY headers")


def _same_socket(one: Bind, other: Bind) -> bool:
    first, second = ip_address(one.host), ip_address(other.host)
    if one.port != other.port or one.port == 0 or first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _proxy_protocol(listener: Listener, place: Place, findings: Findings) -> None:
    proxy = listener.proxy_protocol
    if proxy.mode == "required" and not proxy.trusted:
        findings.refuse((*place, "proxy_protocol"), "`trusted` must name the load balancers whose header is believed")
    if proxy.mode == "off" and proxy.trusted:
        findings.refuse((*place, "proxy_protocol", "trusted"), "has no effect while the mode is `off`")
    for index, network in enumerate(proxy.trusted):
        if network.prefixlen == 0:
            findings.warn(
                (*place, "proxy_protocol", "trusted", index), "believes everyone who can connect about who they are"
            )


def _server_names(listener: Listener, place: Place, findings: Findings) -> None:
    names = (
        ((*place, "tls", "more", i, "names", j), name)
        for i, more in enumerate(listener.tls.more)
        for j, name in enumerate(more.names)
    )
    _once(findings, names, "certificate's name")


def _client_certificates(listener: Listener, place: Place, findings: Findings) -> None:
    asked = listener.tls.client_certificates
    if asked is None:
        return
    place = (*place, "tls", "client_certificates")
    if asked.mode == "off" and asked.authorities:
        findings.refuse((*place, "authorities"), "has no effect while the mode is `off`")
    if asked.mode != "off" and not asked.authorities:
        findings.refuse(place, "`authorities` must name at least one, or the mode be `off`")
    _once(
        findings, (((*place, "authorities", i, "name"), a.name) for i, a in enumerate(asked.authorities)), "authority"
    )


def _grants(config: Config, findings: Findings) -> None:
    issuers = tuple(issuer.name for issuer in config.issuers)
    domains = {
        authority.spiffe
        for listener in config.listeners
        for authority in (listener.tls.client_certificates.authorities if listener.tls.client_certificates else ())
    }
    sources = len(issuers) + bool(config.access_keys) + any(e.asks_certificate for e in config.listeners)
    for index, grant in enumerate(config.grants):
        place: Place = ("grants", index, "match")
        match = grant.match
        if not match.model_fields_set:
            findings.refuse(place, "must name at least one key; an empty match never means everyone")
        if match.issuer is not None and match.issuer not in issuers:
            findings.unknown((*place, "issuer"), "issuer", match.issuer, issuers)
        if match.spiffe is not None:
            domain = match.spiffe.removeprefix("spiffe://").partition("/")[0]
            if domain not in domains:
                findings.refuse((*place, "spiffe"), f"no authority vouches for the trust domain `{domain}`")
        if match.issuer is None and match.principal is None and match.spiffe is None and sources > 1:
            for key in sorted(match.model_fields_set):
                findings.warn((*place, key), "holds for every way to sign in; add `issuer` to mean one")


def _routes(config: Config, findings: Findings) -> None:
    usable = default_rule(config)
    sound = True
    for index, route in enumerate(config.routes):
        place: Place = ("routes", index)
        wrong = pattern_problem(route.path)
        if wrong is not None:
            findings.refuse((*place, "path"), wrong)
            sound = False
        _authenticate(route, place, usable.any_of, config, findings)
        _policy(route, place, config, findings)
        _upstream(route, place, findings)
    indexes = {route.name: index for index, route in enumerate(config.routes)}
    if not sound or len(indexes) < len(config.routes):
        return  # patterns or names that are wrong themselves have nothing to conflict
    for first, second, why in conflicts(routes_of(config)):
        one, other = sorted((indexes[first], indexes[second]))
        findings.refuse(("routes", other), f"overlaps with route `{config.routes[one].name}`: {why}")


def _authenticate(route: Route, place: Place, usable: tuple[str, ...], config: Config, findings: Findings) -> None:
    rule = route.authenticate
    if rule is None:
        if not usable:
            findings.refuse(
                place, "nobody could sign in: there is no issuer, no access key and no listener that asks certificates"
            )
        return
    place = (*place, "authenticate")
    if isinstance(rule, str):
        findings.warn(place, "lets anyone ask; only the policy stands before the upstream")
        return
    if not rule.all_of and not rule.any_of:
        findings.refuse(place, "must name `all_of` or `any_of`; an empty rule never means anyone")
    for key, names in (("all_of", rule.all_of), ("any_of", rule.any_of)):
        for index, name in enumerate(names):
            if name not in usable:
                _unusable((*place, key, index), name, usable, findings)
    _contradictions(rule, place, findings)


def _unusable(place: Place, name: str, usable: tuple[str, ...], findings: Findings) -> None:
    if name == "certificate":
        findings.refuse(place, "no listener asks for client certificates")
    elif name == "sigv4":
        findings.refuse(place, "there are no `access_keys` to verify signatures with")
    else:
        findings.unknown(place, "authenticator", name, usable)


def _contradictions(rule: Authenticate, place: Place, findings: Findings) -> None:
    """Rules that nobody could meet, or whose second half everybody meets."""
    for index, name in enumerate(rule.any_of):
        if name in rule.all_of:
            findings.refuse((*place, "any_of", index), f"`{name}` is in `all_of` already, which makes `any_of` void")
    # Tokens and SigV4 signatures both travel in `Authorization`, of which a request has one.
    header = [name for name in rule.all_of if name != "certificate"]
    if len(header) > 1:
        findings.refuse((*place, "all_of"), f"no request can carry `{header[0]}` and `{header[1]}` at once")
    elif header and rule.any_of and not {"certificate", header[0]} & set(rule.any_of):
        findings.refuse((*place, "any_of"), f"no request can carry one of these and `{header[0]}` at once")


def _policy(route: Route, place: Place, config: Config, findings: Findings) -> None:
    if route.policy is not None:
        return
    if route.authenticate == "none":
        findings.refuse(place, "`policy` is required, as no grant is for anonymous callers")
    elif not config.grants:
        findings.refuse(place, "`policy` is required, as there are no `grants`: nothing could ever be allowed")


def _upstream(route: Route, place: Place, findings: Findings) -> None:
    upstream = route.upstream
    place = (*place, "upstream")
    if not upstream.secure:
        if upstream.tls is not None:
            findings.refuse((*place, "tls"), "has no effect with an http URL")
        if not is_loopback(upstream.host):
            findings.warn((*place, "url"), "requests leave this machine unencrypted")
    elif upstream.tls is not None and (upstream.tls.certificate is None) != (upstream.tls.key is None):
        findings.refuse((*place, "tls"), "`certificate` and `key` come together")


def _unused(config: Config, findings: Findings) -> None:
    accepted: set[str] = set()
    for route in config.routes:
        if route.authenticate is None:
            return
        if isinstance(route.authenticate, Authenticate):
            accepted.update(route.authenticate.all_of, route.authenticate.any_of)
    for index, issuer in enumerate(config.issuers):
        if issuer.name not in accepted:
            findings.warn(("issuers", index), f"no route accepts tokens of `{issuer.name}`")
    if config.access_keys and "sigv4" not in accepted:
        findings.warn(("access_keys",), "no route accepts `sigv4`")
    if "certificate" not in accepted:
        for index, listener in enumerate(config.listeners):
            asked = listener.tls.client_certificates
            if asked is not None and asked.mode == "optional":
                findings.warn(("listeners", index, "tls", "client_certificates"), "no route accepts `certificate`")
