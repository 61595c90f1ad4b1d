"""The one place that orders the stages: route, identity, decision, record, lease.

A shell describes what is wanted (`admit`), holds the `Grant` and closes it. Every attempt leaves one `access.decided`
here, whatever its end; every grant leaves one `access.ended`. Nothing in this module knows a protocol, and nothing in
it waits unless a key must be fetched or the route wants its record on disk first.

INVARIANT: `Grant` is constructed in this module alone, after an allowing `Decision` was recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, perf_counter_ns, time
from typing import Final, NamedTuple

from orjson import Fragment

from ztproxy.audit import record
from ztproxy.audit.pattern import AllowedPattern
from ztproxy.audit.recorder import Recorder
from ztproxy.authn.chain import AuthenticationChain
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.explain import full, reason
from ztproxy.authz.policy import PolicySet
from ztproxy.errors import AccessError, AuditUnavailable, Denied, Internal, NoRoute, ProtocolError, ZtproxyError
from ztproxy.routing import RouteTable
from ztproxy.types import (
    AccessRequest,
    Ask,
    Decision,
    DenyDetail,
    Effect,
    Evidence,
    Identity,
    Lease,
    Meter,
    NetworkContext,
    Route,
)

_MOST_FRAGMENTS: Final = 4096
"""Of each memory here; an entry is a few KiB, so all of them stay within some 30 MiB."""
_Ids = tuple[int, int, int, int]


@dataclass(slots=True)
class _Attempt:
    """What was known of an attempt when it failed; the record says as much as there is."""

    id: str
    at: datetime
    network: NetworkContext
    ask: Ask | None
    resource: str = ""
    route: Route | None = None
    identity: Identity | None = None
    decision: Decision | None = None


class Refused(ZtproxyError):
    """An attempt that was recorded and turned down; what a shell needs to render it."""

    def __init__(self, *, attempt: str, error: AccessError, level: DenyDetail, reasons: tuple[str, ...]) -> None:
        super().__init__(error.public)
        self.id: Final = attempt
        self.error: Final = error
        self.level: Final = level
        self.reasons: Final = reasons


class Grant(NamedTuple):
    """The right to one upstream exchange; made here alone, and closed exactly once by whoever holds it."""

    request: AccessRequest
    decision: Decision
    lease: Lease | None
    deadline: float
    """Monotonic seconds after which nothing may pass under it."""
    meter: Meter
    started_ns: int
    gate: Gate

    @property
    def id(self) -> str:
        """The id under which this attempt is recorded."""
        return self.request.id

    def close(self, code: str, *, status: int = 0, detail: str = "") -> None:
        """Ends the grant and writes `access.ended`; a second call changes nothing."""
        meter = self.meter
        if not meter.closed:
            meter.closed = True
            self.gate.ended(self, code, status, detail)


_DENIED: Final = {
    Effect.EXPLICIT_DENY: "authz.denied-explicit",
    Effect.IMPLICIT_DENY: "authz.denied-implicit",
}


class Gate:
    """The stages over one configuration generation."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        chain: AuthenticationChain,
        policies: PolicySet,
        recorder: Recorder,
        generation: int,
        now: Callable[[], float] = time,
    ) -> None:
        self._routes: Final = routes
        self._chain: Final = chain
        self._policies: Final = policies
        self._recorder: Final = recorder
        self._generation: Final = generation
        self._now: Final = now
        """Seconds since 1970."""
        self._boot: Final = os.urandom(8).hex()
        self._count = 0
        self._networks: Final[dict[int, tuple[NetworkContext, Fragment]]] = {}
        self._identities: Final[dict[int, tuple[Identity, Fragment]]] = {}
        self._patterns: Final[dict[_Ids, tuple[AllowedPattern, NetworkContext, Identity, Decision]]] = {}

    async def admit(self, network: NetworkContext, evidence: Evidence, ask: Ask) -> Grant:
        """A grant for what is asked, recorded before it is given.

        Raises: `Refused`, already recorded.
        """
        started_ns = perf_counter_ns()
        seconds_now = self._now()
        at = datetime.fromtimestamp(seconds_now, UTC)
        request_id = self._next_id()
        resource = ask.resource
        route: Route | None = None
        identity: Identity | None = None
        decision: Decision | None = None
        grant: Grant | None = None
        try:
            route = self._routes.match(ask.host, ask.path)
            if route is None:
                raise NoRoute("route.none", "no route answers for this host and path")
            resource = f"{route.arn}/{resource}"
            identity = self._chain.standing(route.authenticate, evidence, at)
            if identity is None:
                identity = await self._chain.identify(route.authenticate, evidence, network, at)
            request = AccessRequest(request_id, at, network, identity, route, ask, resource)
            decision = evaluate(self._policies, request)
            if decision.effect is not Effect.ALLOW:
                raise _denied(decision)
            seconds = min(route.limits.total_s, (identity.expires_at - at).total_seconds())
            if decision.ttl_s is not None and decision.ttl_s < seconds:
                seconds = decision.ttl_s
            body = self._allowed(request, decision, int(seconds_now * 1000))
            if route.audit_required:
                durable = self._recorder.durable(body)
                grant = Grant(request, decision, None, monotonic() + seconds, Meter(), started_ns, self)
                await durable
                return grant
            self._recorder.append(body)
            return Grant(request, decision, None, monotonic() + seconds, Meter(), started_ns, self)
        except BaseException as failure:
            error = _as_error(failure)
            attempt = _Attempt(request_id, at, network, ask, resource, route, identity, decision)
            if grant is None:
                self._append(self._decided(attempt, error.code, _for_the_record(error)))
            else:
                # The decision is in the chain already, whatever became of it; this is its end.
                grant.close(error.code, status=error.status, detail=error.detail)
            if not isinstance(failure, Exception):
                raise
            raise self._refused(attempt, error) from (None if isinstance(failure, AccessError) else failure)

    def reject(self, network: NetworkContext, error: AccessError, ask: Ask | None = None) -> Refused:
        """Records an attempt that never became an ask, and what to answer."""
        attempt = _Attempt(self._next_id(), datetime.fromtimestamp(self._now(), UTC), network, ask)
        self._append(self._decided(attempt, error.code, _for_the_record(error)))
        return self._refused(attempt, error)

    def failed_connection(self, *, listener: str, peer: str, peer_port: int, error: AccessError) -> None:
        """Records a preamble or handshake that never became a request."""
        self._append(
            record.failed_connection(
                at_ms=int(self._now() * 1000),
                code=error.code,
                detail=error.detail,
                listener=listener,
                peer=peer,
                peer_port=peer_port,
                request_id=self._next_id(),
            )
        )

    def ended(self, grant: Grant, code: str, status: int, detail: str) -> None:
        """Writes `access.ended`; called by `Grant.close`."""
        meter = grant.meter
        self._append(
            record.ended(
                request_id=grant.id,
                at_ms=int(self._now() * 1000),
                code=code,
                status=status,
                bytes_in=meter.bytes_in,
                bytes_out=meter.bytes_out,
                duration_us=(perf_counter_ns() - grant.started_ns) // 1000,
                upstream=grant.request.route.upstream,
                detail=detail,
            )
        )

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._boot}-{self._count:x}"

    def _append(self, body: bytes) -> None:
        try:  # noqa: SIM105 - `suppress` costs more than the record
            self._recorder.append(body)
        except AuditUnavailable:
            pass  # what is recorded here has happened already; the recorder states the gap when it recovers

    def _refused(self, attempt: _Attempt, error: AccessError) -> Refused:
        """What the caller is told."""
        level = attempt.route.deny_detail if attempt.route is not None else None
        if level is None:
            # A 401 or 403 of a stranger explains nothing; what broke the wire rules is no secret.
            # AWS tells a signer in full what was wrong with the signature, and its SDKs' users rely on it.
            signer = error.code.startswith("authn.sigv4-")
            stranger = attempt.identity is None and not signer and error.status in (401, 403, 404)
            level = DenyDetail.ID if stranger else DenyDetail.REASON
        decision = attempt.decision
        reasons: tuple[str, ...] = (error.public,)
        if decision is not None and isinstance(error, Denied):
            reasons = tuple(full(decision)) if level is DenyDetail.FULL else (reason(decision),)
        return Refused(attempt=attempt.id, error=error, level=level, reasons=reasons)

    def _allowed(self, request: AccessRequest, decision: Decision, at_ms: int) -> bytes:
        """The record of a permission; who asks again on the same connection pays only for what is new."""
        ask, network, identity, route = request.ask, request.network, request.identity, request.route
        key = (id(network), id(identity), id(decision), id(route))
        known = self._patterns.get(key)
        # INVARIANT: an entry holds its objects, so their ids are not those of later ones.
        if known is None:
            if len(self._patterns) >= _MOST_FRAGMENTS:
                del self._patterns[next(iter(self._patterns))]
            pattern = AllowedPattern(
                network=self._network_fragment(network),
                identity=self._identity_fragment(identity),
                route=route.name,
                action=ask.action,
                decision=decision,
                generation=self._generation,
            )
            self._patterns[key] = (pattern, network, identity, decision)
        else:
            pattern = known[0]
        return pattern.body(
            request_id=request.id,
            at_ms=at_ms,
            method=ask.method,
            host=ask.host,
            path=ask.path,
            resource=request.resource,
        )

    def _decided(self, attempt: _Attempt, code: str, detail: str) -> bytes:
        ask, route, identity = attempt.ask, attempt.route, attempt.identity
        return record.decided(
            request_id=attempt.id,
            at_ms=record.milliseconds(attempt.at),
            network=self._network_fragment(attempt.network),
            code=code,
            generation=self._generation,
            method="" if ask is None else ask.method,
            host="" if ask is None else ask.host,
            path="" if ask is None else ask.path,
            action="" if ask is None else ask.action,
            resource=attempt.resource,
            route=None if route is None else route.name,
            identity=None if identity is None else self._identity_fragment(identity),
            decision=attempt.decision,
            detail=detail,
        )

    def _network_fragment(self, network: NetworkContext) -> Fragment:
        known = self._networks.get(id(network))
        # INVARIANT: an entry holds its object, so an id is never mistaken for that of a later one.
        if known is not None and known[0] is network:
            return known[1]
        if len(self._networks) >= _MOST_FRAGMENTS:
            self._networks.clear()
        fragment = record.network_fragment(network)
        self._networks[id(network)] = (network, fragment)
        return fragment

    def _identity_fragment(self, identity: Identity) -> Fragment:
        known = self._identities.get(id(identity))
        if known is not None and known[0] is identity:
            return known[1]
        if len(self._identities) >= _MOST_FRAGMENTS:
            self._identities.clear()
        fragment = record.identity_fragment(identity)
        self._identities[id(identity)] = (identity, fragment)
        return fragment


def _for_the_record(error: AccessError) -> str:
    return f"{error.public}; {error.detail}" if error.detail else error.public


def _as_error(failure: BaseException) -> AccessError:
    """What is recorded and answered for whatever ended an attempt; never an allow."""
    if isinstance(failure, AccessError):
        return failure
    if not isinstance(failure, Exception):
        return ProtocolError("client.closed", "the client went away")
    return Internal("internal", "an internal error", detail=repr(failure))


def _denied(decision: Decision) -> Denied:
    if decision.errors:
        return Denied("authz.error", "a policy could not be evaluated, so access is denied")
    return Denied(_DENIED[decision.effect], "access is denied by policy")
