"""One condition of a statement, compiled: what it answers when its key is missing, has many values or is unreadable.

Around a row of the operator table stand the quantifier (`ForAllValues:`, `ForAnyValue:`) and `IfExists`. The truth
table (aws.md §4.3):

    key            positive  negated  ...IfExists  ForAllValues  ForAnyValue  Null "true" / "false"
    missing        false     TRUE     TRUE         TRUE          false        true / false
    several policy values: any matches (negated: none does)

An empty list of request values counts as missing. A request value that cannot be read as the operator's type never
matches; a negated operator then fails closed: an Allow does not apply, a Deny does. The same holds for several
request values under an operator without quantifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ztproxy.authz import context
from ztproxy.authz.context import Value
from ztproxy.authz.match import Lookup
from ztproxy.authz.operators import Form, Match, Open, form, variables_of
from ztproxy.authz.policy import Condition
from ztproxy.types import AccessRequest

Test = Callable[[AccessRequest], bool]


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A condition ready to be asked, with what an explanation needs."""

    condition: Condition
    form: Form
    read: context.Read
    match: Callable[[AccessRequest], Match]
    """The test of one value of the key, in this request."""
    holds: Test

    def unreadable(self, request: AccessRequest) -> bool:
        """Whether the key is there but its value cannot be compared as the operator demands."""
        value = self.read(request)
        if value is None or self.form.name == "Null":
            return False
        values = (value,) if isinstance(value, str) else value
        if not self.form.quantifier and len(values) > 1:
            return True
        found = self.match(request)
        return any(found(item) is None for item in values)


def compile_condition(condition: Condition, *, allow: bool, variables: bool) -> CompiledCondition:
    """The condition as a test of a request; `allow` is the effect of its statement, which failing closed depends on.

    Raises: `ValueError` for what `parse.py` refuses with a place.
    """
    shape = form(condition.operator)
    if shape is None:
        raise ValueError(f"no operator `{condition.operator}`")
    operator, read = shape.operator, context.reader(condition.key)
    wanted = {value: variables_of(operator, value, variables=variables) for value in condition.values}
    found = operator.compile([value for value, open_ in wanted.items() if not open_], variables)
    if operator.family == "null":
        return CompiledCondition(condition, shape, read, lambda _: found, _absence(read, found))
    judge = _judge(shape, closed=not allow)
    if operator.open is not None and (templates := {value: open_ for value, open_ in wanted.items() if open_}):
        readers = {token.key: context.reader(token.key) for open_ in templates.values() for token in open_}
        bind = _binder(found, tuple(operator.open(value) for value in templates), readers)
        return CompiledCondition(condition, shape, read, bind, lambda request: judge(read(request), bind(request)))
    return CompiledCondition(condition, shape, read, lambda _: found, _static_test(shape, read, found, judge))


def _absence(read: context.Read, wanted: Match) -> Test:
    when_missing, when_present = bool(wanted("true")), bool(wanted("false"))
    return lambda request: when_missing if read(request) in (None, ()) else when_present


def _static_test(shape: Form, read: context.Read, found: Match, judge: Callable[[Value, Match], bool]) -> Test:
    """The commonest shapes, positive operators on one value or on any of several, in one step; others by `judge`."""
    if shape.operator.negated or shape.quantifier == "ForAllValues":
        return lambda request: judge(read(request), found)

    def plain(request: AccessRequest) -> bool:
        value = read(request)
        if type(value) is str:
            return found(value) is True
        return judge(value, found)

    def any_value(request: AccessRequest) -> bool:
        value = read(request)
        if type(value) is not tuple or not value:
            return judge(value, found)
        for item in value:  # noqa: SIM110 - a generator costs more than the tests
            if found(item) is True:
                return True
        return False

    return any_value if shape.quantifier else plain


def _judge(shape: Form, *, closed: bool) -> Callable[[Value, Match], bool]:
    """The truth table: a value of the request and a test of one value -> whether the condition holds."""
    negated = shape.operator.negated
    missing = shape.if_exists or (shape.quantifier == "ForAllValues" if shape.quantifier else negated)

    def one(value: str, found: Match) -> bool:
        answer = found(value)
        if answer is None:
            return closed if negated else False
        return answer is not negated

    def judge(value: Value, found: Match) -> bool:
        if value is None or value == ():
            return missing
        if isinstance(value, str):
            return one(value, found)
        if shape.quantifier == "ForAllValues":
            return all(one(item, found) for item in value)
        if shape.quantifier == "ForAnyValue":
            return any(one(item, found) for item in value)
        # Undefined at AWS: a single value is taken as such, several fail closed.
        return one(value[0], found) if len(value) == 1 else closed

    return judge


def lookup_in(readers: Mapping[str, context.Read], request: AccessRequest) -> Lookup:
    """Values for variables; several values at once cannot be put in (aws.md §4.2)."""

    def lookup(key: str) -> str | None:
        value = readers[key](request)
        return value if isinstance(value, str) else None

    return lookup


def _binder(
    fixed: Match, templates: Sequence[Open], readers: Mapping[str, context.Read]
) -> Callable[[AccessRequest], Match]:
    """For values with variables: a test of one value, made for this request. Unresolved, a value matches nothing."""

    def bind(request: AccessRequest) -> Match:
        lookup = lookup_in(readers, request)

        def test(value: str) -> bool | None:
            answer = fixed(value)
            if answer is False:
                return any(fits(value, lookup) for fits in templates)
            return answer

        return test

    return bind
