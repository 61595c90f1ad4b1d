"""The decision: pure, total, and no for every doubt.

The order is AWS's (aws.md §4.4): an explicit Deny in any policy wins. In the caller's own account an Allow of the
resource policy or of an identity policy is enough; a resource policy that names only the account delegates, so an
identity Allow is still needed. Across accounts both sides must allow. Silence denies.

The answer for an Allow is made at load; reasons are worked out only for a refusal, by `explain.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ztproxy.authz import context, explain
from ztproxy.authz.index import Rows, Selection
from ztproxy.authz.policy import PolicySet
from ztproxy.authz.statement import CompiledStatement
from ztproxy.types import AccessRequest, Decision, Effect

_DENIES = 5
"""How many denying statements a decision names."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def evaluate(policies: PolicySet, request: AccessRequest) -> Decision:
    """Whether the request is allowed, and which statements say so; never raises."""
    try:
        return _evaluate(policies, request)
    except Exception as error:
        # INVARIANT: whatever breaks in here, the answer is no and says that something broke.
        return Decision(
            effect=Effect.IMPLICIT_DENY,
            errors=(f"the policies could not be evaluated: {type(error).__name__}",),
            digest=policies.digest,
        )


def _evaluate(policies: PolicySet, request: AccessRequest) -> Decision:
    selection = policies.index.settled.selection(request)
    found = selection.rows(request.resource)
    for rows in found:
        for statement in rows.denies:
            if statement.holds(request):
                return _refused(policies, request, Effect.EXPLICIT_DENY, _denying(found, request))
    account = request.identity.account
    if account is not None and account != request.route.account:
        return _across_accounts(policies, request, selection, found)
    for rows in found:
        for statement in rows.direct:
            if statement.holds(request):
                return _allowed(statement.allow, selection, request) if selection.timed else statement.allow
    for rows in found:
        for statement in rows.identity:
            if statement.holds(request):
                return _allowed(statement.allow, selection, request) if selection.timed else statement.allow
    half = _first((statement for rows in found for statement in rows.delegated), request)
    return _refused(policies, request, Effect.IMPLICIT_DENY, (half,) if half else ())


def _across_accounts(
    policies: PolicySet, request: AccessRequest, selection: Selection, found: Sequence[Rows]
) -> Decision:
    resource = _first((one for rows in found for one in (*rows.direct, *rows.delegated)), request)
    identity = _first((one for rows in found for one in rows.identity), request)
    if resource is None or identity is None:
        half = tuple(one for one in (resource, identity) if one is not None)
        return _refused(policies, request, Effect.IMPLICIT_DENY, half)
    both = Decision(effect=Effect.ALLOW, deciding=(resource.ref, identity.ref), digest=policies.digest)
    return _allowed(both, selection, request)


def _first(statements: Iterable[CompiledStatement], request: AccessRequest) -> CompiledStatement | None:
    return next((statement for statement in statements if statement.holds(request)), None)


def _denying(found: Sequence[Rows], request: AccessRequest) -> tuple[CompiledStatement, ...]:
    holding = {one.number: one for rows in found for one in rows.denies if one.holds(request)}
    return tuple(holding[number] for number in sorted(holding)[:_DENIES])


def _allowed(decision: Decision, selection: Selection, request: AccessRequest) -> Decision:
    return replace(decision, ttl_s=ttl_s(selection, request))


def ttl_s(selection: Selection, request: AccessRequest) -> float | None:
    """Seconds until a condition on time could turn the answer; None when none will.

    Every date the statements mention counts, whichever way it would turn: asking again is cheap, and a stream that
    outlives business hours is not.
    """
    now = (request.at - _EPOCH) // _MICROSECOND
    sign_in = (context.signed_in_at(request) or 0) * 1_000_000
    left = [when + (sign_in if since_sign_in else 0) - now for since_sign_in, when in selection.timed]
    coming = [microseconds for microseconds in left if microseconds >= 0]
    return min(coming) / 1_000_000 if coming else None


def _refused(
    policies: PolicySet, request: AccessRequest, effect: Effect, deciding: tuple[CompiledStatement, ...]
) -> Decision:
    misses, errors = explain.near_misses(policies, request)
    return Decision(
        effect=effect,
        deciding=tuple(statement.ref for statement in deciding),
        misses=misses if effect is Effect.IMPLICIT_DENY else (),
        errors=errors,
        digest=policies.digest,
    )
