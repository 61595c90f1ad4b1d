"""The operator table, family by family."""

from __future__ import annotations

import pytest

from ztproxy.authz import operators
from ztproxy.authz.operators import FORMS, OPERATORS, Form


def found(name: str, policy_value: str, value: str, *, variables: bool = True) -> bool | None:
    return OPERATORS[name].compile((policy_value,), variables)(value)


def test_the_table_is_closed() -> None:
    six = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    strings = ("Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike")
    expected = {f"String{name}" for name in strings} | {f"Arn{n}" for n in ("Equals", "Like", "NotEquals", "NotLike")}
    expected |= {f"{family}{name}" for family in ("Numeric", "Date") for name in six}
    assert set(OPERATORS) == expected | {"Bool", "IpAddress", "NotIpAddress", "Null"}
    assert {name for name, row in OPERATORS.items() if row.negated} == {n for n in OPERATORS if "Not" in n}


def test_how_operators_are_written() -> None:
    assert len(FORMS) == len(set(FORMS)) == (len(OPERATORS) - 1) * 6 + 1
    assert operators.form("StringEquals") == Form("", "StringEquals", False)
    assert operators.form("ForAnyValue:BoolIfExists") == Form("ForAnyValue", "Bool", True)
    assert operators.form("ForAllValues:NotIpAddress") == Form("ForAllValues", "NotIpAddress", False)
    for wrong in ("NullIfExists", "ForAnyValue:Null", "stringequals", "ForSome:StringEquals", "IfExists", ""):
        assert operators.form(wrong) is None
    assert operators.form("NotIpAddress").operator.negated  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "policy_value", "value", "matches"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "${*}", "*", True),
        ("StringEqualsIgnoreCase", "Dev", "dEV", True),
        ("StringEqualsIgnoreCase", "Dev", "devs", False),
        ("StringLike", "a*", "ab", True),
        ("StringLike", "a${*}", "ab", False),
        ("StringLike", "A*", "ab", False),
        ("ArnLike", "arn:aws:iam::*:role/x*", "arn:aws:iam::111122223333:role/xy", True),
        ("ArnEquals", "arn:aws:iam::*:role/x*", "arn:aws:iam::111122223333:role/xy", True),
        ("ArnLike", "arn:aws:iam::1:role/${*}", "arn:aws:iam::1:role/x", False),
        ("ArnLike", "arn:aws:iam::*:role/x", "nonsense", None),
        ("Bool", "true", "True", True),
        ("Bool", "FALSE", "false", True),
        ("Bool", "true", "false", False),
        ("Bool", "true", "yes", None),
        ("NumericEquals", "42", "42.0", True),
        ("NumericEquals", "1e-17", "0.00000000000000001", True),
        ("NumericEquals", "1", "0x1", None),
        ("NumericEquals", "1", "NaN", None),
        ("NumericEquals", ".5", "+0.5", True),
        ("NumericLessThan", "10", "9.99", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "10", False),
        ("NumericGreaterThan", "-10", "-9", True),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("DateEquals", "2026-11-22T08:00:00Z", "1795334400", True),
        ("DateEquals", "2026-11-22T08:00:00Z", "2026-11-22T09:00:00+01:00", True),
        ("DateEquals", "2026-11-22T08:00:00Z", "2026-11-22T03:30:00-0430", True),
        ("DateEquals", "2026-11-22", "2026-11-22T00:00Z", True),
        ("DateEquals", "2026-11", "2026-11-01", True),
        ("DateEquals", "2026-11-22T08:00:00.5Z", "2026-11-22T08:00:00.500000000Z", True),
        ("DateLessThan", "2026-11-22T08:00:00Z", "2026-11-22T07:59:59.999999Z", True),
        ("DateGreaterThanEquals", "0", "-1", False),
        ("DateEquals", "0", "2026-11-22T08:00:00", None),
        ("DateEquals", "0", "2026-13-01", None),
        ("DateEquals", "0", "2026-01-01T00:00:00+99:00", None),
        ("DateEquals", "0", "1_0", None),
    ],
)
def test_comparing(name: str, policy_value: str, value: str, matches: bool | None) -> None:
    assert found(name, policy_value, value) is matches


@pytest.mark.parametrize(
    ("block", "value", "matches"),
    [
        ("203.0.113.0/24", "203.0.113.255", True),
        ("203.0.113.0/24", "203.0.114.0", False),
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.9/24", "203.0.113.1", True),  # host bits are dropped, as IAM does
        ("0.0.0.0/0", "1.2.3.4", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "1.2.3.4", False),
        ("::/0", "2001:db8::1", True),
        ("2001:DB8:1234:5678::/64", "2001:db8:1234:5678:9::1", True),
        ("203.0.113.0/24", "::ffff:203.0.113.9", True),
        ("::ffff:203.0.113.0/120", "203.0.113.9", True),
        ("64:ff9b::/96", "64:ff9b::1", True),
        ("fe80::/10", "fe80::1%eth0", None),
        ("10.0.0.0/8", "010.0.0.1", None),
        ("10.0.0.0/8", "10.1", None),
        ("10.0.0.0/8", "", None),
    ],
)
def test_ip_networks(block: str, value: str, matches: bool | None) -> None:
    assert found("IpAddress", block, value) is matches


def test_several_networks_of_both_versions() -> None:
    fits = OPERATORS["NotIpAddress"].compile(("10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"), True)
    assert [fits(one) for one in ("10.9.9.9", "198.51.100.1", "2001:db8::1", "8.8.8.8", "2001:db9::1")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Bool", "yes"),
        ("Null", "1"),
        ("NumericEquals", "many"),
        ("NumericEquals", "1_0"),
        ("NumericEquals", "9" * 41),
        ("DateEquals", "tomorrow"),
        ("DateLessThan", "2026-02-30"),
        ("IpAddress", "nonsense"),
        ("IpAddress", "10.0.0.0/33"),
        ("IpAddress", "fe80::1%eth0"),
        ("IpAddress", "${aws:SourceIp}"),
        ("ArnLike", "arn:aws:iam"),
        ("ArnLike", "arn:aws:iam::${aws:PrincipalAccount}:x"),
        ("StringLike", "${aws:username"),
    ],
)
def test_policy_values_that_cannot_be_compared_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="`"):
        operators.check_value(OPERATORS[name], value, variables=True)


def test_policy_values_that_can() -> None:
    for name, value in (
        ("StringLike", "h/${aws:username}/*"),
        ("ArnLike", "arn:aws:iam::1:role/${aws:username}"),
        ("StringEquals", ""),
        ("IpAddress", "::1"),
    ):
        operators.check_value(OPERATORS[name], value, variables=True)
    operators.check_value(OPERATORS["StringLike"], "${aws:username", variables=False)


def test_which_values_have_variables() -> None:
    row = OPERATORS["StringLike"]
    assert [one.key for one in operators.variables_of(row, "${aws:a}*${aws:b, 'c'}", variables=True)] == [
        "aws:a",
        "aws:b",
    ]
    assert operators.variables_of(row, "${aws:a}", variables=False) == ()
    assert operators.variables_of(OPERATORS["Bool"], "${aws:a}", variables=True) == ()


@pytest.mark.parametrize(
    ("name", "value", "seen", "who", "fits"),
    [
        ("StringEquals", "${aws:username}", "ada", "ada", True),
        ("StringEquals", "${aws:username}", "Ada", "ada", False),
        ("StringEquals", "${aws:username}", "", None, False),
        ("StringEqualsIgnoreCase", "${aws:username}", "Ada", "ada", True),
        ("StringEqualsIgnoreCase", "${aws:username}", "Ada", None, False),
        ("StringEqualsIgnoreCase", "${aws:username}", "bob", "ada", False),
        ("StringLike", "${aws:username}/*", "ada/x", "ada", True),
        ("StringLike", "${aws:username}/*", "bob/x", "ada", False),
        ("StringLike", "${aws:username}/*", "bob/x", None, False),
        ("StringLike", "${aws:username}", "ada", "*", False),
        ("ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/ada", "ada", True),
        ("ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/ada", None, False),
        ("ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam:1:2:3:user/ada", "ada", False),
    ],
)
def test_values_with_variables(name: str, value: str, seen: str, who: str | None, fits: bool) -> None:
    make = OPERATORS[name].open
    assert make is not None
    assert make(value)(seen, lambda _: who) is fits
