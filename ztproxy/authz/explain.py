"""Why not: the statements that came nearest, and the sentence a refused caller reads.

Nothing here runs for an Allow. A near miss names the first element that failed, in the order Principal, Action,
Resource, Condition; the later that is, the nearer. Work is bounded whatever the number of statements.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from ztproxy.authz.conditions import CompiledCondition
from ztproxy.authz.policy import PolicySet
from ztproxy.authz.statement import CompiledStatement
from ztproxy.types import AccessRequest, Decision, Effect, NearMiss

MISSES: Final = 5
_LOOKED_AT: Final = 64
"""How many statements of a caller are looked at for near misses, and how many of others."""
_SHOWN: Final = 5
"""How many values of an element are shown."""


def near_misses(policies: PolicySet, request: AccessRequest) -> tuple[tuple[NearMiss, ...], tuple[str, ...]]:
    """The Allow statements that came nearest, nearest first, and what could not be read on the way."""
    index = policies.index
    candidates = index.candidates(request)
    rows = candidates.select(request.ask.action).rows(request.resource)
    speaking = (one for row in rows for part in (row.denies, row.direct, row.delegated, row.identity) for one in part)
    seen: set[int] = set()
    found: list[tuple[int, int, int, NearMiss]] = []
    errors: dict[str, None] = {}
    for statement in islice(chain(speaking, (one for _, one in candidates.statements)), 2 * _LOOKED_AT):
        if statement.number not in seen:
            seen.add(statement.number)
            nearness, failed, miss = _first_failure(statement, request)
            if nearness == 0:
                errors.update(dict.fromkeys(_unreadable(statement, request)))
            if miss is not None and statement.source.effect == "Allow":
                found.append((nearness, failed, statement.number, miss))
    if len(found) < MISSES:
        for statement in islice(index.of_route(request.route.name), _LOOKED_AT):
            if statement.source.effect == "Allow" and statement.number not in candidates.numbers:
                callers = request.identity.principals or ("anonymous",)
                miss = _miss(statement, "Principal", statement.source.principals, callers)
                found.append((3, 0, statement.number, miss))
    found.sort(key=lambda near: near[:3])
    return tuple(near[3] for near in found[:MISSES]), tuple(islice(errors, MISSES))


def _first_failure(statement: CompiledStatement, request: AccessRequest) -> tuple[int, int, NearMiss | None]:
    """How far the statement was from holding (0: a condition), how many conditions failed, and the first failure."""
    source = statement.source
    if not statement.action(request.ask.action):
        return 2, 0, _miss(statement, "Action", source.actions, (request.ask.action,))
    if not statement.selects(request):
        return 1, 0, _miss(statement, "Resource", source.resources, (request.resource,))
    failed = [compiled for compiled in statement.conditions if not compiled.holds(request)]
    return 0, len(failed), _condition_miss(statement, failed[0], request) if failed else None


def _miss(statement: CompiledStatement, element: str, expected: tuple[str, ...], seen: tuple[str, ...]) -> NearMiss:
    return NearMiss(statement=statement.ref, element=element, expected=expected[:_SHOWN], seen=seen[:_SHOWN])


def _condition_miss(statement: CompiledStatement, failed: CompiledCondition, request: AccessRequest) -> NearMiss:
    value = failed.read(request)
    return NearMiss(
        statement=statement.ref,
        element="Condition",
        key=failed.condition.key,
        operator=failed.condition.operator,
        expected=failed.condition.values[:_SHOWN],
        seen=(value,) if isinstance(value, str) else value[:_SHOWN] if value else None,
    )


def _unreadable(statement: CompiledStatement, request: AccessRequest) -> Iterator[str]:
    for compiled in statement.conditions:
        if compiled.unreadable(request):
            operator, key = compiled.condition.operator, compiled.condition.key
            yield f"{statement.ref}: `{operator}` cannot read the value of `{key}`"


def reason(decision: Decision) -> str:
    """One sentence for the refused caller (`deny_detail: reason`).

    It names what to ask an administrator for: the statement's Sid, the element that failed, a condition's key. It holds
    no file name and nothing of what a policy expects, so it cannot be used to learn an allow-list.
    """
    if decision.allowed:
        return "allowed"
    if decision.effect is Effect.EXPLICIT_DENY:
        sid = decision.deciding[0].sid if decision.deciding else None
        return f"statement `{sid}` denies this" if sid else "a statement denies this"
    if decision.errors and not decision.misses:
        return "the policies could not be evaluated for this request"
    if decision.deciding:
        lacking = "identity" if decision.deciding[0].policy_kind == "resource" else "resource"
        return f"one side allows this, but the {lacking} policy must allow it too"
    if not decision.misses:
        return "no statement allows this"
    near = decision.misses[0]
    named = f"the nearest, `{near.statement.sid}`," if near.statement.sid else "the nearest statement"
    return f"no statement allows {_asked(decision)}; {named} {_lacking(near)}"


def _asked(decision: Decision) -> str:
    for miss in decision.misses:
        if miss.element == "Resource" and miss.seen:
            method, path = _method_and_path(miss.seen[0])
            return f"{method} on `{path}`" if method else f"this on `{path}`"
        if miss.element == "Action" and miss.seen:
            return f"`{miss.seen[0]}`"
    return "this"


def _method_and_path(resource: str) -> tuple[str, str]:
    """METHOD and path of an `execute-api` ARN; of another, no method and the last part whole."""
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return "", resource
    pieces = parts[5].split("/", 3)
    if parts[2] != "execute-api" or len(pieces) < 3:
        return "", parts[5]
    return pieces[2], f"/{pieces[3]}" if len(pieces) == 4 else "/"


def _lacking(near: NearMiss) -> str:
    if near.element == "Principal":
        return "is for other callers"
    if near.element == "Action":
        return "is for other actions"
    if near.element == "Resource":
        seen_method, _ = _method_and_path(near.seen[0]) if near.seen else ("", "")
        methods = {_method_and_path(pattern)[0] for pattern in near.expected} if seen_method else set()
        other = bool(methods) and all(method and method not in (seen_method, "*") for method in methods)
        return "is for other methods" if other else "is for other resources"
    if near.seen is None:
        return f"also needs `{near.key}`, which this request does not have"
    return f"does not accept the value of `{near.key}`"


def full(decision: Decision) -> list[str]:
    """Lines for `deny_detail: full`, the record and the command line: every file, line and value."""
    lines = [decision.effect.value.replace("_", " ")]
    lines += [f"decided by {ref}, {ref.policy_kind} policy" for ref in decision.deciding]
    if decision.effect is Effect.IMPLICIT_DENY and decision.deciding:
        lines.append("that allows it, but both the identity and the resource side must")
    for miss in decision.misses:
        what = f"{miss.operator} on {miss.key}" if miss.key else miss.element
        seen = "no such key" if miss.seen is None else _list(miss.seen)
        lines.append(f"near miss {miss.statement}: {what} expected {_list(miss.expected)}, saw {seen}")
    lines += [f"error: {error}" for error in decision.errors]
    return lines


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)
