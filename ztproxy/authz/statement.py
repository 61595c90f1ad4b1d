"""One statement as tests, made at load.

Principal and action are looked up by `index.py`; what is left to ask of a request is the resource and the conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ztproxy.authz import context, glob, match
from ztproxy.authz.conditions import CompiledCondition, Test, compile_condition, lookup_in
from ztproxy.authz.operators import form, instant, number
from ztproxy.authz.policy import Policy, Statement
from ztproxy.types import AccessRequest, Decision, Effect, StatementRef

DEPTH: Final = 8
"""Slashes of a resource that an index by resource looks at."""

_TIME_KEYS: Final = frozenset(("aws:currenttime", "aws:epochtime", "aws:multifactorauthage"))


class CompiledStatement:
    """A statement as tests; made once, never changed."""

    __slots__ = (
        "action",
        "allow",
        "conditions",
        "number",
        "ref",
        "resource",
        "source",
        "template",
        "tests",
        "thresholds",
    )

    def __init__(self, policy: Policy, statement: Statement, number: int, digest: str) -> None:
        allowing = statement.effect == "Allow"
        self.number = number
        self.source = statement
        self.ref: StatementRef = policy.ref(statement)
        self.allow = Decision(effect=Effect.ALLOW, deciding=(self.ref,), digest=digest)
        selected = match.actions(statement.actions)
        self.action: Callable[[str], bool] = (lambda action: not selected(action)) if statement.not_action else selected
        self.resource: Callable[[str], bool] | None
        """None: any resource, or `template` says."""
        self.template: Test | None
        self.resource, self.template = _resource(statement, variables=policy.variables, allowing=allowing)
        self.conditions: tuple[CompiledCondition, ...] = tuple(
            compile_condition(condition, allow=allowing, variables=policy.variables)
            for condition in statement.conditions
        )
        tests = tuple(compiled.holds for compiled in self.conditions)
        self.tests: tuple[Test, ...] = tests if self.template is None else (self.template, *tests)
        """The conditions, after the resource where it has variables."""
        self.thresholds: tuple[tuple[bool, int], ...] = _thresholds(statement)

    def selects(self, request: AccessRequest) -> bool:
        """Whether the resource element selects what is asked."""
        if self.resource is not None and not self.resource(request.resource):
            return False
        return self.template is None or self.template(request)

    def holds(self, request: AccessRequest) -> bool:
        """Whether resource and conditions hold; principal and action have been looked up."""
        fits = self.resource
        if fits is not None and not fits(request.resource):
            return False
        for test in self.tests:  # noqa: SIM110 - a generator costs more than the tests
            if not test(request):
                return False
        return True

    def bucket_keys(self) -> list[str]:
        """Where a statement is filed: by the whole segments of each resource pattern before its first wildcard."""
        if self.source.not_resource:
            return [""]
        keys = []
        for text in self.source.resources:
            # Variables are wildcards here whatever the version: a shorter key is always right.
            pattern = match.arn(text, variables=False)
            prefix, whole = pattern.literal_prefix
            prefix, open_, _ = prefix.partition("${")
            if not whole or open_:
                prefix = prefix.rpartition("/")[0]
            segments = prefix.split("/")
            keys.append("/".join(segments[:DEPTH]) if len(segments) > DEPTH else prefix)
        return keys


def _resource(
    statement: Statement, *, variables: bool, allowing: bool
) -> tuple[Callable[[str], bool] | None, Test | None]:
    patterns = [match.arn(text, variables=variables) for text in statement.resources]
    static = [pattern for pattern in patterns if pattern.static]
    templates = tuple(match.arn_template(pattern) for pattern in patterns if not pattern.static)
    fits = match.arn_like(static)
    everything = any(not pattern.parts for pattern in patterns)
    if not statement.not_resource:
        if everything:
            return None, None
        if not templates:
            return fits, None
    elif not templates:
        return (lambda resource: not fits(resource)), None
    readers = {
        token.key: context.reader(token.key)
        for template in templates
        for token in template.last
        if isinstance(token, glob.Variable)
    }

    def selects(request: AccessRequest) -> bool:
        lookup, resource = lookup_in(readers, request), request.resource
        return fits(resource) or any(template.matches(resource, lookup) is True for template in templates)

    def spares(request: AccessRequest) -> bool:
        # An exception that cannot be resolved fails closed: an Allow does not apply, a Deny does.
        lookup, resource = lookup_in(readers, request), request.resource
        answers = [fits(resource), *(template.matches(resource, lookup) for template in templates)]
        if True in answers:
            return False
        return None not in answers or not allowing

    return None, spares if statement.not_resource else selects


def _thresholds(statement: Statement) -> tuple[tuple[bool, int], ...]:
    found: list[tuple[bool, int]] = []
    for condition in statement.conditions:
        key, shape = condition.key.lower(), form(condition.operator)
        if key not in _TIME_KEYS or shape is None or shape.operator.family == "null":
            continue
        for value in condition.values:
            since_sign_in = key == "aws:multifactorauthage"
            when = int((number(value) or 0) * 1_000_000) if since_sign_in else instant(value) or 0
            found.append((since_sign_in, when))
            if key != "aws:currenttime":
                # These keys are whole seconds, so `at most 60` turns when 61 begins.
                found.append((since_sign_in, when + 1_000_000))
    return tuple(found)
