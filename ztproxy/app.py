"""Composition root: a checked configuration becomes a running proxy, and every lifetime is owned here.

`plan` does all that can fail without a socket: policies parsed and compiled, TLS contexts loaded, secrets read. `App`
then opens the spool, starts the issuers' key sets and the listeners, and takes them down in the reverse order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ztproxy import __version__
from ztproxy.audit import record
from ztproxy.audit.recorder import Recorder
from ztproxy.authn.bearer import JwtAuthenticator
from ztproxy.authn.certificate import CertificateAuthenticator
from ztproxy.authn.chain import AuthenticationChain
from ztproxy.authn.claims import ClaimMapping
from ztproxy.authn.documents import DiscoveredDocument, Document, DocumentError, Fetcher, FileDocument, UrlDocument
from ztproxy.authn.jwks import JwksSource
from ztproxy.authn.sigv4 import AccessKey, SigV4Authenticator
from ztproxy.authz.context import network_facts
from ztproxy.authz.policy import GrantMatch, PolicySet
from ztproxy.authz.source import GrantPolicies, RoutePolicy, load_policy_set
from ztproxy.config import Config, FileReference, Unresolvable, routes_of
from ztproxy.config import models as written
from ztproxy.config.caller import Issuer
from ztproxy.config.document import Place
from ztproxy.config.listener import Listener as WrittenListener
from ztproxy.errors import AuditUnavailable, ConfigError, Problem
from ztproxy.gate import Gate
from ztproxy.ports import Authenticator
from ztproxy.proxy.http import Door
from ztproxy.proxy.listener import Binding, Listener
from ztproxy.proxy.sessions import Sessions
from ztproxy.proxy.tls import Authority, ListenerContext, ListenerTls, ServerCertificate, UpstreamTls, upstream_context
from ztproxy.proxy.turn import Turn
from ztproxy.proxy.upstream import Upstream, UpstreamTarget
from ztproxy.routing import RouteTable
from ztproxy.types import AuditRecord, Facts, Route

_log = logging.getLogger("ztproxy")
_DRAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a configuration means, built and checked, before any socket is opened."""

    config: Config
    routes: tuple[Route, ...]
    policies: PolicySet
    listeners: tuple[tuple[WrittenListener, Binding, ListenerContext], ...]
    upstreams: tuple[UpstreamTarget, ...]
    issuers: tuple[tuple[Issuer, Document], ...]
    access_keys: tuple[AccessKey, ...]


class _Problems:
    """Collects what is wrong, place by place."""

    def __init__(self, config: Config) -> None:
        self._config: Final = config
        self.found: Final[list[Problem]] = []

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """What goes wrong inside is a problem of this place."""
        try:
            yield
        except ConfigError as error:
            self.found.extend(error.problems)
        except (Unresolvable, DocumentError, ssl.SSLError, OSError, ValueError) as error:
            self.found.append(self._config.problem(place, str(error)))


def plan(config: Config) -> Plan:
    """All of a configuration that can fail without a socket.

    Raises: `ConfigError` with every problem.
    """
    problems = _Problems(config)
    routes = routes_of(config)
    policies = _policies(config, routes, problems)
    listeners = []
    for index, listener in enumerate(config.listeners):
        with problems.at(("listeners", index, "tls")):
            listeners.append((listener, _binding(listener), ListenerContext(_listener_tls(listener))))
    upstreams = []
    for index, route in enumerate(config.routes):
        with problems.at(("routes", index, "upstream")):
            upstreams.append(_upstream_target(route))
    issuers = []
    for index, issuer in enumerate(config.issuers):
        with problems.at(("issuers", index)):
            issuers.append((issuer, _keys_document(issuer)))
    access_keys = []
    for index, key in enumerate(config.access_keys):
        with problems.at(("access_keys", index, "secret")):
            access_keys.append(
                AccessKey(
                    access_key_id=key.id,
                    secret=key.secret.secret(),
                    user=key.user,
                    arn=f"arn:{config.arn.partition}:iam::{config.arn.account}:user/{key.user}",
                    account=config.arn.account,
                    groups=key.groups,
                    tags=key.tags,
                )
            )
    if problems.found or policies is None:
        raise ConfigError(tuple(problems.found))
    return Plan(
        config=config,
        routes=routes,
        policies=policies,
        listeners=tuple(listeners),
        upstreams=tuple(upstreams),
        issuers=tuple(issuers),
        access_keys=tuple(access_keys),
    )


def _policies(config: Config, routes: tuple[Route, ...], problems: _Problems) -> PolicySet | None:
    urls = {issuer.name: issuer.issuer for issuer in config.issuers}
    grants = []
    for index, grant in enumerate(config.grants):
        with problems.at(("grants", index, "match")):
            match = GrantMatch(
                issuer=None if grant.match.issuer is None else urls[grant.match.issuer],
                group=grant.match.group,
                subject=grant.match.subject,
                spiffe=grant.match.spiffe,
                principal=grant.match.principal,
            )
            grants.append(GrantPolicies(match=match, paths=grant.policies))
    with problems.at(("routes",)):
        return load_policy_set(
            [
                RoutePolicy(route=route.name, arn=route.arn, path=given.policy)
                for route, given in zip(routes, config.routes, strict=True)
                if given.policy is not None
            ],
            grants,
        )
    return None


def _binding(listener: WrittenListener) -> Binding:
    header = listener.proxy_protocol
    return Binding(
        host=listener.bind.host,
        port=listener.bind.port,
        proxy_from=header.trusted if header.mode == "required" else None,
    )


def _listener_tls(listener: WrittenListener) -> ListenerTls:
    tls, clients = listener.tls, listener.tls.client_certificates
    asked = clients is not None and clients.mode != "off"
    return ListenerTls(
        certificates=(
            ServerCertificate(certificate=tls.certificate.path, key=tls.key.path),
            *(
                ServerCertificate(certificate=more.certificate.path, key=more.key.path, names=more.names)
                for more in tls.more
            ),
        ),
        authorities=tuple(
            Authority(name=authority.name, pem=_pem(authority.ca), trust_domain=authority.spiffe)
            for authority in (clients.authorities if clients is not None and asked else ())
        ),
        client_certificates=clients.mode if clients is not None else "off",
        minimum=tls.minimum,
    )


def _pem(reference: FileReference) -> str:
    return reference.path.read_text(encoding="ascii", errors="replace")


def _upstream_target(route: written.Route) -> UpstreamTarget:
    upstream = route.upstream
    tls = upstream.tls or written.UpstreamTls()
    context = None
    if upstream.secure:
        context = upstream_context(
            UpstreamTls(
                ca_pem=None if tls.ca is None else _pem(tls.ca),
                certificate=None if tls.certificate is None else tls.certificate.path,
                key=None if tls.key is None else tls.key.path,
            )
        )
    return UpstreamTarget(
        route=route.name,
        host=upstream.host,
        port=upstream.port,
        tls=context,
        server_name=tls.server_name,
        max_connections=upstream.pool.max_connections,
    )


def _keys_document(issuer: Issuer) -> Document:
    if isinstance(issuer.jwks, FileReference):
        return FileDocument(path=issuer.jwks.path)
    # Plain http to this machine only where the operator wrote it; a discovery document cannot ask for it (S22).
    plain = (issuer.jwks or issuer.issuer).startswith("http://")
    fetcher = Fetcher.trusting(None if issuer.ca is None else issuer.ca.path, allow_loopback_http=plain)
    if issuer.jwks is not None:
        return UrlDocument(url=issuer.jwks, fetcher=fetcher)
    return DiscoveredDocument(issuer=issuer.issuer, fetcher=fetcher)


class App:
    """A running proxy."""

    def __init__(self, plan: Plan) -> None:
        self._plan: Final = plan
        self._stop: Final = asyncio.Event()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self.addresses: tuple[tuple[str, str, int], ...] = ()
        """Listener name, host and port, once it listens."""

    def stop(self) -> None:
        """Begins the drain; `run` returns when it is over."""
        self._stop.set()

    async def run(self, ready: Callable[[App], None]) -> None:
        """Serves until `stop`; calls `ready` once every listener accepts.

        Raises: `AuditUnavailable` when the spool cannot be opened, `OSError` when an address cannot be bound.
        """
        config = self._plan.config
        loop = asyncio.get_running_loop()
        recorder = Recorder(config.audit.spool, segment_bytes=config.audit.segment_bytes)
        recorder.open()
        listeners: list[Listener] = []
        try:
            for _, binding, _ in self._plan.listeners:
                listeners.append(Listener(binding, loop))
            async with asyncio.TaskGroup() as group:
                await self._serve(group, recorder, listeners, ready)
                for task in self._tasks:
                    task.cancel()
            with suppress(AuditUnavailable):  # a full disk must not keep the house from closing
                recorder.append(_lifecycle("process.stopped"))
        finally:
            for listener in listeners:
                listener.stop()
            recorder.close()

    async def _serve(
        self,
        group: asyncio.TaskGroup,
        recorder: Recorder,
        listeners: list[Listener],
        ready: Callable[[App], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        plan = self._plan

        def spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = group.create_task(_guarded(coroutine))
            self._tasks.add(task)

            def over(task: asyncio.Task[None]) -> None:
                self._tasks.discard(task)
                coroutine.close()  # one that was cancelled before it began is not complained about

            task.add_done_callback(over)
            return task

        gate = Gate(
            routes=RouteTable(plan.routes),
            chain=AuthenticationChain(await self._authenticators(spawn)),
            policies=plan.policies,
            recorder=recorder,
            generation=1,
        )
        sessions = Sessions(loop)
        turn = Turn(loop, recorder)
        upstreams = {target.route: Upstream(target, loop, spawn) for target in plan.upstreams}
        endpoints = {vpce_id: endpoint.vpc for vpce_id, endpoint in plan.config.network.vpc_endpoints.items()}

        def facts(peer: str, vpce_id: str | None) -> Facts:
            return network_facts(peer=peer, vpce_id=vpce_id, vpc_endpoints=endpoints, secure=True)

        recorder.append(_lifecycle("process.started"))
        sessions.start()
        try:
            for (written_listener, _, context), listener in zip(plan.listeners, listeners, strict=True):
                timeouts = written_listener.timeouts
                listener.start(
                    Door(
                        listener=written_listener.name,
                        gate=gate,
                        turn=turn,
                        spawn=spawn,
                        sessions=sessions,
                        upstreams=upstreams,
                        tls=context,
                        network_facts=facts,
                        pre_auth_s=timeouts.pre_auth_s,
                        idle_s=timeouts.idle_s,
                    )
                )
            self.addresses = tuple(
                (given.name, binding.host, listener.port)
                for (given, binding, _), listener in zip(plan.listeners, listeners, strict=True)
            )
            _settle_memory()
            ready(self)
            await self._stop.wait()
        finally:
            for listener in listeners:
                listener.stop()
            await sessions.drain(_DRAIN_S)
            sessions.stop()
            for upstream in upstreams.values():
                upstream.close()

    async def _authenticators(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> list[Authenticator]:
        config = self._plan.config
        found: list[Authenticator] = [CertificateAuthenticator()]
        for issuer, document in self._plan.issuers:
            keys = JwksSource(document, spawn=spawn)
            if isinstance(document, FileDocument) and not await keys.refresh():
                _log.warning("issuer `%s`: its keys cannot be had yet: %s", issuer.name, keys.last_error)
            spawn(keys.run())
            found.append(
                JwtAuthenticator(
                    name=issuer.name,
                    issuer=issuer.issuer,
                    audiences=issuer.audiences,
                    algorithms=issuer.algorithms,
                    leeway_s=issuer.leeway_s,
                    claims=ClaimMapping(
                        subject=issuer.claims.subject, groups=issuer.claims.groups, tags=issuer.claims.tags
                    ),
                    keys=keys,
                    proxy_account=config.arn.account,
                    partition=config.arn.partition,
                )
            )
        if self._plan.access_keys:
            found.append(
                SigV4Authenticator(
                    self._plan.access_keys,
                    frozenset(config.sigv4_regions),
                    frozenset(config.sigv4.services),
                    config.sigv4.skew_s,
                )
            )
        return found


def _settle_memory() -> None:
    """What was loaded is never looked at by the collector again, and requests leave no cycles for it to find often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _guarded(coroutine: Coroutine[Any, Any, None]) -> None:
    """A failure of one connection or fetch is told, and ends only itself."""
    try:
        await coroutine
    except Exception:
        _log.exception("a task failed")


def _lifecycle(event: str) -> bytes:
    facts = {"version": __version__, "pid": os.getpid()}
    return record.event_body(AuditRecord(event=event, facts=facts), at_ms=record.milliseconds(datetime.now(UTC)))
