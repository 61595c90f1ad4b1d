"""Policy files -> the policy set in force; the only I/O of this room.

A set is built whole or not at all: every problem of every file is reported at once, and what was in force stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztproxy.authz.index import build_policy_set
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.policy import GrantBinding, GrantMatch, Policy, PolicyKind, PolicySet
from ztproxy.errors import ConfigError, Problem

MAX_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePolicy:
    """The resource policy of one route."""

    route: str
    arn: str
    """`Route.arn`, which the short form of resources is completed with."""
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPolicies:
    """The identity policies of one grant."""

    match: GrantMatch
    paths: tuple[Path, ...]


def load_policy_set(routes: Sequence[RoutePolicy], grants: Sequence[GrantPolicies]) -> PolicySet:
    """Reads and compiles every file.

    Raises: `ConfigError` with the problems of all files.
    """
    problems: list[Problem] = []
    read: dict[tuple[Path, PolicyKind, str | None], Policy | None] = {}

    def policy(path: Path, kind: PolicyKind, arn: str | None) -> Policy | None:
        key = (path, kind, arn)
        if key not in read:
            try:
                read[key] = parse_policy(_text(path), file=str(path), kind=kind, route_arn=arn)
            except ConfigError as error:
                problems.extend(problem for problem in error.problems if problem not in problems)
                read[key] = None
        return read[key]

    resource = {one.route: policy(one.path, "resource", one.arn) for one in routes}
    identity = [(grant.match, [policy(path, "identity", None) for path in grant.paths]) for grant in grants]
    if problems:
        raise ConfigError(tuple(problems))
    return build_policy_set(
        {route: one for route, one in resource.items() if one is not None},
        [GrantBinding(match=who, policies=tuple(one for one in what if one is not None)) for who, what in identity],
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError((Problem(str(path), 1, 1, f"cannot be read: {error.strerror}"),)) from None
    if len(data) > MAX_BYTES:
        raise ConfigError((Problem(str(path), 1, 1, f"is larger than {MAX_BYTES} bytes"),))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigError((Problem(str(path), line, column, "is not UTF-8 text"),)) from None


class FilePolicySource:
    """The last good policy set of some files."""

    def __init__(self, routes: Sequence[RoutePolicy], grants: Sequence[GrantPolicies]) -> None:
        """Loads the files. Raises: `ConfigError`."""
        self._routes: Final = tuple(routes)
        self._grants: Final = tuple(grants)
        self._current = load_policy_set(self._routes, self._grants)

    def current(self) -> PolicySet:
        """The set in force; never blocks."""
        return self._current

    def reload(self) -> PolicySet:
        """Reads the files again and swaps the whole set.

        Raises: `ConfigError`; then the set in force stays in force.
        """
        self._current = load_policy_set(self._routes, self._grants)
        return self._current
