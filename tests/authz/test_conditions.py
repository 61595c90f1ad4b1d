"""The truth table of one condition: missing, one value, many, unreadable; for every quantifier and polarity."""

from __future__ import annotations

import pytest

from tests.authz.requests import request
from ztproxy.authz.conditions import CompiledCondition, compile_condition
from ztproxy.authz.policy import Condition
from ztproxy.types import AccessRequest

KEY = "ztproxy:Claim/x"
Value = str | tuple[str, ...] | None


def compiled(
    operator: str, *values: str, key: str = KEY, allow: bool = True, variables: bool = True
) -> CompiledCondition:
    return compile_condition(
        Condition(operator=operator, key=key, values=values, line=1), allow=allow, variables=variables
    )


def having(value: Value, **more: str) -> AccessRequest:
    facts: dict[str, str | tuple[str, ...]] = {f"aws:{name}": one for name, one in more.items()}
    return request(identity=facts if value is None else {**facts, "ztproxy:claim/x": value})


@pytest.mark.parametrize("value", [None, ()])
@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringEqualsIfExists", True),
        ("StringNotEqualsIfExists", True),
        ("ForAllValues:StringEquals", True),
        ("ForAllValues:StringNotEquals", True),
        ("ForAllValues:StringEqualsIfExists", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAnyValue:StringNotEquals", False),
        ("ForAnyValue:StringEqualsIfExists", True),
        ("IpAddress", False),
        ("NotIpAddress", True),
        ("NotIpAddressIfExists", True),
        ("Bool", False),
        ("BoolIfExists", True),
    ],
)
def test_a_missing_key(operator: str, value: Value, holds: bool) -> None:
    policy_value = "true" if "Bool" in operator else "10.0.0.0/8" if "Ip" in operator else "a"
    for allow in (True, False):
        assert compiled(operator, policy_value, allow=allow).holds(having(value)) is holds


@pytest.mark.parametrize(
    ("operator", "value", "holds"),
    [
        ("StringEquals", "a", True),
        ("StringEquals", "b", True),
        ("StringEquals", "c", False),
        ("StringEquals", "", False),
        ("StringNotEquals", "a", False),
        ("StringNotEquals", "c", True),
        ("StringNotEquals", "", True),
        ("StringEqualsIfExists", "c", False),
        ("StringEquals", ("a",), True),
        ("StringNotEquals", ("a",), False),
        ("ForAnyValue:StringEquals", ("c", "a"), True),
        ("ForAnyValue:StringEquals", ("c", "d"), False),
        ("ForAnyValue:StringEquals", "a", True),
        ("ForAnyValue:StringEquals", "c", False),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
        ("ForAnyValue:StringNotEquals", ("a", "c"), True),
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAllValues:StringEquals", "a", True),
        ("ForAllValues:StringNotEquals", ("c", "d"), True),
        ("ForAllValues:StringNotEquals", ("c", "a"), False),
    ],
)
def test_values(operator: str, value: Value, holds: bool) -> None:
    assert compiled(operator, "a", "b").holds(having(value)) is holds


@pytest.mark.parametrize(
    ("operator", "policy_value", "value"),
    [
        ("NotIpAddress", "10.0.0.0/8", "nonsense"),
        ("NumericNotEquals", "1", "many"),
        ("DateNotEquals", "0", "soon"),
        ("ArnNotLike", "arn:aws:a:b:c:d", "x"),
        ("StringEquals", "a", ("a", "a")),
        ("StringNotEquals", "a", ("b", "c")),
    ],
)
def test_what_cannot_be_judged_fails_closed(operator: str, policy_value: str, value: Value) -> None:
    subject = having(value)
    for allow in (True, False):
        one = compiled(operator, policy_value, allow=allow)
        assert one.holds(subject) is not allow
        assert one.unreadable(subject)


@pytest.mark.parametrize("allow", [True, False])
def test_an_unreadable_value_never_matches_a_positive_operator(allow: bool) -> None:
    assert compiled("IpAddress", "0.0.0.0/0", allow=allow).holds(having("nonsense")) is False
    assert compiled("ForAnyValue:IpAddress", "10.0.0.0/8", allow=allow).holds(having(("x", "10.0.0.1"))) is True
    assert compiled("ForAllValues:IpAddress", "10.0.0.0/8", allow=allow).holds(having(("x", "10.0.0.1"))) is False


def test_what_can_be_read() -> None:
    assert not compiled("IpAddress", "10.0.0.0/8").unreadable(having(None))
    assert not compiled("IpAddress", "10.0.0.0/8").unreadable(having("8.8.8.8"))
    assert not compiled("ForAnyValue:IpAddress", "10.0.0.0/8").unreadable(having(("8.8.8.8", "9.9.9.9")))
    assert compiled("ForAnyValue:IpAddress", "10.0.0.0/8").unreadable(having(("8.8.8.8", "x")))
    assert not compiled("Null", "true").unreadable(having(("a", "b")))


@pytest.mark.parametrize(
    ("values", "when_missing", "when_present"),
    [(("true",), True, False), (("false",), False, True), (("true", "false"), True, True)],
)
def test_null(values: tuple[str, ...], when_missing: bool, when_present: bool) -> None:
    one = compiled("Null", *values)
    assert one.holds(having(None)) is when_missing
    assert one.holds(having(())) is when_missing
    assert one.holds(having("")) is when_present
    assert one.holds(having(("a", "b"))) is when_present


@pytest.mark.parametrize(
    ("operator", "value", "holds"),
    [
        ("StringEquals", "ada", True),
        ("StringEquals", "fixed", True),
        ("StringEquals", "bob", False),
        ("StringNotEquals", "ada", False),
        ("StringNotEquals", "bob", True),
        ("ForAnyValue:StringEquals", ("bob", "ada"), True),
    ],
)
def test_variables(operator: str, value: Value, holds: bool) -> None:
    assert compiled(operator, "${aws:username}", "fixed").holds(having(value, username="ada")) is holds


def test_an_unresolved_variable_matches_nothing() -> None:
    assert not compiled("StringEquals", "${aws:username}").holds(having("ada"))
    assert compiled("StringNotEquals", "${aws:username}").holds(having("ada"))
    assert not compiled("StringEquals", "${aws:username}").holds(having(""))
    several = request(groups=("a", "b"), identity={"ztproxy:claim/x": "a"})
    assert not compiled("StringEquals", "${ztproxy:groups}").holds(several)


def test_an_unreadable_value_beside_a_variable() -> None:
    one = compiled("ArnNotLike", "arn:aws:iam::1:user/${aws:username}")
    assert not one.holds(having("x", username="ada"))
    assert one.unreadable(having("x", username="ada"))


def test_before_2012_variables_are_text() -> None:
    assert compiled("StringEquals", "${aws:username}", variables=False).holds(having("${aws:username}"))


def test_an_unknown_operator_cannot_be_compiled() -> None:
    with pytest.raises(ValueError, match="no operator"):
        compiled("StringEqual", "a")
