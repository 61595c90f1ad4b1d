"""Patterns of the elements: actions, ARNs and principals, compiled at load.

An ARN has six parts; the first five are compared one by one, the last as a whole, `/` and `:` included (aws.md §4.2).
Actions ignore case. Principals are exact tokens (`<type>:<value>`), never patterns, but for `*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ztproxy.authz import glob
from ztproxy.authz.glob import Resolved, Template, Variable, Wild

Lookup = Callable[[str], str | None]
"""A variable's value by its key."""

_ACTION: Final = re.compile(r"([A-Za-z0-9-]+):([A-Za-z0-9*?_-]+)")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ACTIONS: Final = {
    "execute-api": ("Invoke", "InvalidateCache", "ManageConnections"),
    "rds-db": ("connect",),
}
"""Every action of the services that are asked here and have a closed list."""


def check_action(pattern: str) -> str | None:
    """What is wrong with an action pattern, or None."""
    if pattern == "*":
        return None
    shape = _ACTION.fullmatch(pattern)
    if shape is None:
        return (
            f"`{pattern}` is not an action such as `execute-api:Invoke`; wildcards only after the colon, or a bare `*`"
        )
    names = _ACTIONS.get(shape.group(1).lower())
    if names:
        fits = actions((pattern,))
        if not any(fits(f"{shape.group(1)}:{name}") for name in names):
            return f"`{pattern}` is no action of `{shape.group(1)}`: it has {', '.join(f'`{name}`' for name in names)}"
    return None


def actions(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test whether an action is one of the patterns."""
    fits = glob.like([_static(pattern.lower()) for pattern in patterns])
    return lambda action: fits(action.lower())


def covers_service(patterns: Sequence[str], negated: bool, services: frozenset[str]) -> bool:
    """Whether an Action (or NotAction) element could select an action of one of the services."""
    if negated:
        return True
    return any(pattern == "*" or pattern.partition(":")[0].lower() in services for pattern in patterns)


def _static(pattern: str) -> Resolved:
    tokens = glob.fixed(glob.read(pattern, wildcards=True, variables=False))
    assert tokens is not None
    return tokens


@dataclass(frozen=True, slots=True)
class Arn:
    """One ARN pattern: five static parts and a last one that may hold variables."""

    parts: tuple[Resolved, ...]
    """None at all: the pattern was `*`."""
    last: Template

    @property
    def static(self) -> bool:
        """Whether it holds no variable."""
        return glob.fixed(self.last) is not None

    @property
    def literal_prefix(self) -> tuple[str, bool]:
        """The text before the first wildcard or variable, and whether that is all of the pattern."""
        prefix: list[str] = []
        for tokens in (*self.parts, self.last):
            for token in tokens:
                if isinstance(token, (Wild, Variable)):
                    return ":".join(prefix), False
                prefix.append(token)
            if not tokens:
                prefix.append("")
        return ":".join(prefix), True


def arn(text: str, *, variables: bool) -> Arn:
    """The pattern read from text.

    Raises: `ValueError` for fewer than six parts, other than a bare `*` (STRICTER than IAM), or a bad variable.
    """
    if text == "*":
        return Arn((), (Wild.ANY,))
    parts = text.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        raise ValueError(f"`{text}` is not an ARN of six parts (arn:partition:service:region:account:resource) nor `*`")
    if variables and any("${" in part for part in parts[:5]):
        raise ValueError(f"`{text}` has a variable before its last part")
    if not parts[5]:
        raise ValueError(f"`{text}` names no resource after the fifth colon")
    last = glob.read(parts[5], wildcards=True, variables=variables)
    return Arn(tuple(_static(part) for part in parts[:5]), last)


def _head(pattern: Arn) -> str:
    return "".join(glob.expression(part, "[^:]") + ":" for part in pattern.parts)


def arn_like(patterns: Sequence[Arn]) -> Callable[[str], bool]:
    """A test whether an ARN fits one of the static patterns."""
    exact: list[str] = []
    prefixes: list[str] = []
    others: list[str] = []
    for pattern in patterns:
        prefix, whole = pattern.literal_prefix
        last = glob.fixed(pattern.last)
        assert last is not None
        if not pattern.parts:
            return lambda _: True
        if whole:
            exact.append(prefix)
        elif last[-1] is Wild.ANY and not any(isinstance(t, Wild) for p in (*pattern.parts, last[:-1]) for t in p):
            prefixes.append(f"{':'.join(glob.text(part) for part in pattern.parts)}:{glob.text(last[:-1])}")
        else:
            others.append(_head(pattern) + glob.expression(last))
    if len(exact) == 1 and not prefixes and not others:
        return exact[0].__eq__
    if len(prefixes) == 1 and not exact and not others:
        start = prefixes[0]
        return lambda value: value.startswith(start)
    if others and not exact and not prefixes:
        fits = re.compile("|".join(others), re.DOTALL).fullmatch
        return lambda value: fits(value) is not None
    names, starts = frozenset(exact), tuple(prefixes)
    fits = re.compile("|".join(others or ["(?!)"]), re.DOTALL).fullmatch
    return lambda value: value in names or value.startswith(starts) or fits(value) is not None


@dataclass(frozen=True, slots=True)
class ArnTemplate:
    """An ARN pattern with variables in its last part."""

    last: Template
    head: re.Pattern[str] = field(compare=False)

    def matches(self, value: str, lookup: Lookup) -> bool | None:
        """Whether the ARN fits; None when a variable has no value and the rest of the pattern cannot say no."""
        start = self.head.match(value)
        if start is None:
            return False
        last = glob.resolve(self.last, lookup)
        return None if last is None else glob.matches(last, value[start.end() :])


def arn_template(pattern: Arn) -> ArnTemplate:
    """The pattern ready to be asked with values for its variables."""
    return ArnTemplate(pattern.last, re.compile(_head(pattern), re.DOTALL))


# --- principals


@dataclass(frozen=True, slots=True)
class Caller:
    """The tokens by which a caller is known, from the exact to the broad."""

    own: frozenset[str]
    """Itself: the session, the user, the issuer."""
    direct: frozenset[str]
    """Those, and the role behind a session."""
    accounts: frozenset[str]
    """Its account, which only delegates (aws.md §4.4)."""


def caller(principals: Sequence[str]) -> Caller:
    """What `Identity.principals` amounts to."""
    own: set[str] = set()
    roles: set[str] = set()
    accounts: set[str] = set()
    for given in principals:
        token = normal(given)
        if is_account(token):
            accounts.add(token)
            continue
        own.add(token)
        parts = token.split(":", 6)
        if len(parts) == 7 and parts[0] == "AWS":
            accounts.add(f"AWS:{parts[5]}")
            if parts[3] == "sts" and parts[6].startswith("assumed-role/"):
                role = parts[6].split("/")[1]
                roles.add(f"AWS:arn:{parts[2]}:iam::{parts[5]}:role/{role}")
    return Caller(frozenset(own - roles), frozenset(own | roles), frozenset(accounts))


def is_account(token: str) -> bool:
    """Whether a token names an account rather than somebody in it."""
    return token.startswith("AWS:") and _ACCOUNT.fullmatch(token, 4) is not None


def normal(token: str) -> str:
    """One spelling for what has several: the account by its `:root`, a role without its path.

    Role names are unique in an account whatever their path, and a session's ARN does not tell the path.
    """
    parts = token.split(":", 6)
    if len(parts) == 7 and parts[0] == "AWS" and parts[3] == "iam":
        if parts[6] == "root":
            return f"AWS:{parts[5]}"
        if parts[6].startswith("role/"):
            return f"{':'.join(parts[:6])}:role/{parts[6].rsplit('/', 1)[1]}"
    return token


def principal_token(kind: str, value: str, *, account: str | None) -> str:
    """The token of one principal in a policy; `account` is the route's own, whose providers alone are known.

    Raises: `ValueError` for what can name nobody.
    """
    if value == "*" and kind == "AWS":
        return "*"
    if "*" in value or "?" in value:
        raise ValueError(f"`{value}` has a wildcard: a principal is exact, or `*` alone under `AWS`")
    if not value or value != value.strip() or "," in value:
        raise ValueError(f"`{value}` cannot name one principal")
    parts = value.split(":", 5)
    if kind == "AWS":
        if _ACCOUNT.fullmatch(value):
            return f"AWS:{value}"
        known = ("user/", "role/", "assumed-role/", "federated-user/")
        if (
            len(parts) == 6
            and parts[0] == "arn"
            and parts[2] in ("iam", "sts")
            and _ACCOUNT.fullmatch(parts[4])
            and (parts[5] == "root" or (parts[5].startswith(known) and not parts[5].endswith("/")))
        ):
            return normal(f"AWS:{value}")
        raise ValueError(f"`{value}` is not `*`, a 12-digit account id, or the ARN of a user, role or session")
    if kind == "Federated" and parts[0] == "arn" and len(parts) == 6 and account not in (None, parts[4]):
        raise ValueError(f"`{value}` is a provider of another account than the route's `{account}`")
    return f"{kind}:{value}"
