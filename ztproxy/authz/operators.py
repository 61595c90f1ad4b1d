"""The closed table of IAM condition operators: what each compares, and how its values are read.

Every operator is a row of `OPERATORS`: a family that compares one request value with the policy's, and whether the
answer is turned round. Policy values are read at load and refused there; a request value that cannot be read as the
family's type answers None, which `conditions.py` turns into the safe side. Source: IAM User Guide, condition operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any, Final, Literal

from ztproxy.authz import glob, match
from ztproxy.authz.glob import Resolved, Variable
from ztproxy.authz.match import Lookup

Match = Callable[[str], bool | None]
"""Whether one request value matches one of the policy's; None: it cannot be read."""
Open = Callable[[str, Lookup], bool]
"""The same for a policy value with variables."""
Family = Literal["string", "arn", "numeric", "date", "bool", "ip", "null"]
Quantifier = Literal["", "ForAllValues", "ForAnyValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One row of the table."""

    family: Family
    negated: bool = False
    compile: Callable[[Sequence[str], bool], Match]
    """Policy values without open variables, whether `${...}` has meaning -> a test. Raises: `ValueError`."""
    open: Callable[[str], Open] | None = None
    """One policy value with variables -> a test to which they are given; None: this family has none."""


@dataclass(frozen=True, slots=True)
class Form:
    """An operator as written: quantifier, row, `IfExists`."""

    quantifier: Quantifier
    name: str
    if_exists: bool

    @property
    def operator(self) -> Operator:
        """The row."""
        return OPERATORS[self.name]


# --- families


def _read(values: Sequence[str], variables: bool, *, wildcards: bool) -> list[Resolved]:
    read = (glob.read(value, wildcards=wildcards, variables=variables) for value in values)
    return [tokens for template in read if (tokens := glob.fixed(template)) is not None]


def _equals(values: Sequence[str], variables: bool) -> Match:
    return frozenset(glob.text(tokens) for tokens in _read(values, variables, wildcards=False)).__contains__


def _open_equals(value: str) -> Open:
    template = glob.read(value, wildcards=False, variables=True)
    return lambda seen, lookup: (tokens := glob.resolve(template, lookup)) is not None and glob.text(tokens) == seen


def _equals_ignore_case(values: Sequence[str], variables: bool) -> Match:
    folded = frozenset(glob.text(tokens).casefold() for tokens in _read(values, variables, wildcards=False))
    return lambda value: value.casefold() in folded


def _open_equals_ignore_case(value: str) -> Open:
    template = glob.read(value, wildcards=False, variables=True)

    def test(seen: str, lookup: Lookup) -> bool:
        tokens = glob.resolve(template, lookup)
        return tokens is not None and glob.text(tokens).casefold() == seen.casefold()

    return test


def _like(values: Sequence[str], variables: bool) -> Match:
    return glob.like(_read(values, variables, wildcards=True))


def _open_like(value: str) -> Open:
    template = glob.read(value, wildcards=True, variables=True)
    return lambda seen, lookup: (tokens := glob.resolve(template, lookup)) is not None and glob.matches(tokens, seen)


def _arn(values: Sequence[str], variables: bool) -> Match:
    fits = match.arn_like([match.arn(value, variables=variables) for value in values])
    return lambda value: fits(value) if value.count(":") >= 5 else None


def _open_arn(value: str) -> Open:
    template = match.arn_template(match.arn(value, variables=True))
    return lambda seen, lookup: template.matches(seen, lookup) is True


def _bool(values: Sequence[str], _: bool) -> Match:
    wanted = set()
    for value in values:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"`{value}` is neither `true` nor `false`")
        wanted.add(value.lower())

    def test(value: str) -> bool | None:
        lowered = value.lower()
        return lowered in wanted if lowered in ("true", "false") else None

    return test


_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")


@lru_cache(maxsize=1024)
def number(value: str) -> Decimal | None:
    """A decimal number, exactly; None for anything else."""
    return Decimal(value) if _NUMBER.fullmatch(value) else None


_DATE: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9]))?)?"
)
_EPOCH: Final = re.compile(r"-?[0-9]{1,15}")


@lru_cache(maxsize=1024)
def instant(value: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 date (W3C profile, from the month on) or of whole epoch seconds.

    A date without time is midnight UTC; a time without zone is None, for nobody can say when that is.
    """
    if _EPOCH.fullmatch(value):
        return int(value) * 1_000_000
    shape = _DATE.fullmatch(value)
    if shape is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = shape.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    try:
        moment = datetime(
            int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), micros, UTC
        )
        offset = timedelta()
        if zone and zone != "Z":
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])) * (-1 if zone[0] == "-" else 1)
        return (moment - offset - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def _ordered(
    read: Callable[[str], Any], compare: Callable[[Any, Any], bool], kind: str
) -> Callable[[Sequence[str], bool], Match]:
    def compile_(values: Sequence[str], _: bool) -> Match:
        bounds = []
        for text in values:
            bound = read(text)
            if bound is None:
                raise ValueError(f"`{text}` is not {kind}")
            bounds.append(bound)

        def test(value: str) -> bool | None:
            seen = read(value)
            return None if seen is None else any(compare(seen, bound) for bound in bounds)

        return test

    return compile_


@lru_cache(maxsize=4096)
def address(value: str) -> tuple[int, int] | None:
    """IP version and number; IPv4-mapped IPv6 is IPv4; None for zone ids and everything else."""
    if "%" in value:
        return None
    try:
        parsed = ip_address(value)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed)


def _network(text: str) -> tuple[int, int, int]:
    """IP version, mask and network of a CIDR block or a single address."""
    try:
        if "%" in text:
            raise ValueError(text)
        # LENIENT: host bits beside the mask are dropped, as IAM does; test_ip_networks pins it.
        parsed = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"`{text}` is not an address or a network such as `203.0.113.0/24`") from None
    start, length, version = int(parsed.network_address), parsed.prefixlen, parsed.version
    if version == 6 and length >= 96 and (mapped := IPv6Address(start).ipv4_mapped) is not None:
        start, length, version = int(mapped), length - 96, 4
    size = 32 if version == 4 else 128
    return version, ((1 << length) - 1) << (size - length), start


def _ip(values: Sequence[str], _: bool) -> Match:
    blocks: dict[tuple[int, int], set[int]] = {}
    for text in values:
        version, mask, start = _network(text)
        blocks.setdefault((version, mask), set()).add(start)
    # One look per prefix length, however many blocks share it.
    four = tuple((mask, frozenset(starts)) for (version, mask), starts in blocks.items() if version == 4)
    six = tuple((mask, frozenset(starts)) for (version, mask), starts in blocks.items() if version == 6)

    def test(value: str) -> bool | None:
        seen = address(value)
        if seen is None:
            return None
        version, bits = seen
        for mask, starts in four if version == 4 else six:  # noqa: SIM110 - a generator costs more than the tests
            if bits & mask in starts:
                return True
        return False

    return test


def _comparisons(prefix: str, family: Family, read: Callable[[str], Any], kind: str) -> dict[str, Operator]:
    def row(compare: Callable[[Any, Any], bool], *, negated: bool = False) -> Operator:
        return Operator(family=family, negated=negated, compile=_ordered(read, compare, kind))

    return {
        f"{prefix}Equals": row(eq),
        f"{prefix}NotEquals": row(eq, negated=True),
        f"{prefix}LessThan": row(lt),
        f"{prefix}LessThanEquals": row(le),
        f"{prefix}GreaterThan": row(gt),
        f"{prefix}GreaterThanEquals": row(ge),
    }


OPERATORS: Final[Mapping[str, Operator]] = MappingProxyType(
    {
        "StringEquals": Operator(family="string", compile=_equals, open=_open_equals),
        "StringNotEquals": Operator(family="string", negated=True, compile=_equals, open=_open_equals),
        "StringEqualsIgnoreCase": Operator(family="string", compile=_equals_ignore_case, open=_open_equals_ignore_case),
        "StringNotEqualsIgnoreCase": Operator(
            family="string", negated=True, compile=_equals_ignore_case, open=_open_equals_ignore_case
        ),
        "StringLike": Operator(family="string", compile=_like, open=_open_like),
        "StringNotLike": Operator(family="string", negated=True, compile=_like, open=_open_like),
        "ArnEquals": Operator(family="arn", compile=_arn, open=_open_arn),
        "ArnLike": Operator(family="arn", compile=_arn, open=_open_arn),
        "ArnNotEquals": Operator(family="arn", negated=True, compile=_arn, open=_open_arn),
        "ArnNotLike": Operator(family="arn", negated=True, compile=_arn, open=_open_arn),
        **_comparisons("Numeric", "numeric", number, "a decimal number"),
        **_comparisons("Date", "date", instant, "a date such as `2026-11-22T08:00:00Z` or epoch seconds"),
        "Bool": Operator(family="bool", compile=_bool),
        "IpAddress": Operator(family="ip", compile=_ip),
        "NotIpAddress": Operator(family="ip", negated=True, compile=_ip),
        "Null": Operator(family="null", compile=_bool),
    }
)
"""Source: IAM User Guide, condition operators; aws.md §4.3."""

FORMS: Final = tuple(
    f"{quantifier}{name}{suffix}"
    for name in OPERATORS
    for quantifier in ("", "ForAnyValue:", "ForAllValues:")
    for suffix in ("", "IfExists")
    if name != "Null" or (not quantifier and not suffix)
)
"""Every operator as it may be written."""

_FORM_SET: Final = frozenset(FORMS)


def form(name: str) -> Form | None:
    """The parts of an operator as written, or None when there is none of that name."""
    if name not in _FORM_SET:
        return None
    prefix, colon, rest = name.rpartition(":")
    quantifier: Quantifier = ("ForAnyValue" if prefix == "ForAnyValue" else "ForAllValues") if colon else ""
    return Form(quantifier, rest.removesuffix("IfExists"), rest.endswith("IfExists"))


# --- policy values


def variables_of(operator: Operator, value: str, *, variables: bool) -> tuple[Variable, ...]:
    """The variables in one policy value.

    Raises: `ValueError` for one that cannot be read.
    """
    if not variables or operator.open is None:
        return ()
    return tuple(token for token in glob.read(value, wildcards=False, variables=True) if isinstance(token, Variable))


def check_value(operator: Operator, value: str, *, variables: bool) -> None:
    """Refuses a policy value that could never be compared.

    Raises: `ValueError`.
    """
    if operator.open is not None and variables_of(operator, value, variables=variables):
        operator.open(value)
    else:
        operator.compile((value,), variables)
