"""Policies compiled for asking: what a decision costs depends on the statements that can match, not on how many exist.

Three narrowings, each a lookup: the statements of the route's policy by principal token and the grants that match the
caller (kept per caller), those by action, and, when many are left, those by the literal beginning of their resource.
What is left is a few compiled tests.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Final

from ztproxy.authz import glob, match
from ztproxy.authz.policy import EVERYONE, GrantBinding, GrantMatch, Policy, PolicySet
from ztproxy.authz.settle import SettledSelections
from ztproxy.authz.statement import DEPTH, CompiledStatement
from ztproxy.types import AccessRequest, Identity

_CALLERS: Final = 4096
"""How many (route, caller) pairs are remembered."""
_ACTIONS: Final = 64
_FLAT: Final = 24
"""Up to so many statements are simply tried."""


class Rows:
    """Statements that principal and action have selected, by the part they play."""

    __slots__ = ("delegated", "denies", "direct", "identity")

    def __init__(self) -> None:
        self.denies: tuple[CompiledStatement, ...] = ()
        self.direct: tuple[CompiledStatement, ...] = ()
        """Allows of the resource policy that name the caller."""
        self.delegated: tuple[CompiledStatement, ...] = ()
        """Allows of the resource policy that name only the caller's account."""
        self.identity: tuple[CompiledStatement, ...] = ()
        """Allows of the caller's own policies."""

    def add(self, part: str, statement: CompiledStatement) -> None:
        """Appends to one of the parts; only while the index is built."""
        setattr(self, part, (*getattr(self, part), statement))


class Selection:
    """The statements for one caller, route and action."""

    __slots__ = ("_buckets", "_flat", "timed")

    def __init__(self, statements: Sequence[tuple[str, CompiledStatement]]) -> None:
        self.timed: Final = tuple(sorted({when for _, statement in statements for when in statement.thresholds}))
        """When a test may turn: whether counted from the sign-in, and microseconds; see `evaluate.ttl_s`."""
        self._flat: tuple[Rows, ...] = ()
        self._buckets: dict[str, Rows] = {}
        if len(statements) <= _FLAT:
            rows = Rows()
            for part, statement in statements:
                rows.add(part, statement)
            self._flat = (rows,)
            return
        gathered: dict[str, list[tuple[str, CompiledStatement]]] = {}
        for part, statement in statements:
            for key in dict.fromkeys(statement.bucket_keys()):
                gathered.setdefault(key, []).append((part, statement))
        for key, members in gathered.items():
            self._buckets[key] = rows = Rows()
            for name in ("denies", "direct", "delegated", "identity"):
                setattr(rows, name, tuple(statement for part, statement in members if part == name))

    def rows(self, resource: str) -> Sequence[Rows]:
        """The statements whose resource may begin as this one does."""
        if self._flat:
            return self._flat
        get = self._buckets.get
        found = [rows] if (rows := get("")) is not None else []
        position = -1
        for _ in range(DEPTH):
            position = resource.find("/", position + 1)
            if position < 0:
                if (rows := get(resource)) is not None:
                    found.append(rows)
                break
            if (rows := get(resource[:position])) is not None:
                found.append(rows)
        return found


class Candidates:
    """The statements of one route and caller."""

    __slots__ = ("_by_action", "numbers", "statements")

    def __init__(self, statements: tuple[tuple[str, CompiledStatement], ...]) -> None:
        self.statements: Final = statements
        self.numbers: Final = frozenset(statement.number for _, statement in statements)
        self._by_action: dict[str, Selection] = {}

    def select(self, action: str) -> Selection:
        """Those that speak of an action."""
        selection = self._by_action.get(action)
        if selection is None:
            selection = Selection([(part, one) for part, one in self.statements if one.action(action)])
            if len(self._by_action) >= _ACTIONS:
                self._by_action.clear()
            self._by_action[action] = selection
        return selection


class _RouteIndex:
    """One resource policy by principal token."""

    __slots__ = ("by_token", "negated", "statements")

    def __init__(self, statements: Sequence[CompiledStatement]) -> None:
        self.statements = tuple(statements)
        self.by_token: dict[str, list[CompiledStatement]] = {}
        self.negated: list[CompiledStatement] = []
        for statement in statements:
            if statement.source.not_principal:
                self.negated.append(statement)
            else:
                for token in dict.fromkeys(statement.source.principals):
                    self.by_token.setdefault(token, []).append(statement)

    def for_caller(self, caller: match.Caller) -> list[tuple[str, CompiledStatement]]:
        """The statements whose principal element selects the caller, in the order of the file."""
        found: dict[int, tuple[str, CompiledStatement]] = {}
        for tokens, allow in ((caller.accounts, "delegated"), (caller.direct, "direct"), ((EVERYONE,), "direct")):
            for token in tokens:
                for statement in self.by_token.get(token, ()):
                    found[statement.number] = (_part(statement, allow), statement)
        for statement in self.negated:
            listed = set(statement.source.principals)
            if statement.source.effect == "Deny":
                # Only naming the caller itself spares it: naming its account or role alone does not (IAM User
                # Guide, NotPrincipal).
                if listed.isdisjoint(caller.own):
                    found[statement.number] = ("denies", statement)
            elif caller.own and listed.isdisjoint(caller.direct | caller.accounts):
                # STRICTER: an anonymous caller is not allowed for being nobody in particular.
                found[statement.number] = ("direct", statement)
        return [found[number] for number in sorted(found)]


def _part(statement: CompiledStatement, allow: str) -> str:
    return "denies" if statement.source.effect == "Deny" else allow


def grant_matches(wanted: GrantMatch, identity: Identity, caller: match.Caller) -> bool:
    """Whether an identity policy is attached to this caller: every given part, compared exactly."""
    if identity.kind == "anonymous":
        return False
    spiffe = identity.facts.get("ztproxy:spiffeid")
    return (
        (wanted.issuer is None or f"Federated:{wanted.issuer}" in caller.direct)
        and (wanted.group is None or wanted.group in identity.groups)
        and (wanted.subject is None or wanted.subject == identity.subject)
        and (wanted.principal is None or match.normal(f"AWS:{wanted.principal}") in caller.direct)
        and (wanted.spiffe is None or (isinstance(spiffe, str) and _spiffe(wanted.spiffe)(spiffe)))
    )


def _spiffe(pattern: str) -> Callable[[str], bool]:
    tokens = glob.fixed(glob.read(pattern, wildcards=True, variables=False))
    return lambda value: tokens is not None and glob.matches(tokens, value)


class PolicyIndex:
    """Everything compiled, and what is remembered of callers; owned by one worker."""

    __slots__ = ("_callers", "_grants", "_recent", "_routes", "digest", "settled")

    def __init__(self, resource: Mapping[str, Policy], identity: Sequence[GrantBinding], digest: str) -> None:
        self.digest: Final = digest
        numbers = itertools.count()

        def compiled(policy: Policy) -> list[CompiledStatement]:
            return [CompiledStatement(policy, one, next(numbers), digest) for one in policy.statements]

        self._routes: Final = {name: _RouteIndex(compiled(policy)) for name, policy in resource.items()}
        self._grants: Final = tuple(
            (grant.match, tuple(one for policy in grant.policies for one in compiled(policy))) for grant in identity
        )
        self._callers: dict[tuple[object, ...], Candidates] = {}
        self._recent: dict[int, tuple[Identity, str, Candidates]] = {}
        self.settled: Final = SettledSelections(self.candidates, Selection)

    def candidates(self, request: AccessRequest) -> Candidates:
        """The statements that speak of this caller on this route."""
        identity, route = request.identity, request.route.name
        recent = self._recent.get(id(identity))
        # The entry keeps its identity alive, so an id seen again is the same object.
        if recent is not None and recent[0] is identity and recent[1] == route:
            return recent[2]
        # Everything that principal elements and grants look at.
        key = (
            route,
            identity.principals,
            identity.groups,
            identity.subject,
            identity.issuer,
            identity.kind,
            identity.facts.get("ztproxy:spiffeid"),
        )
        found = self._callers.get(key)
        if found is None:
            found = Candidates(tuple(self._for_caller(route, identity)))
            if len(self._callers) >= _CALLERS:
                del self._callers[next(iter(self._callers))]
            self._callers[key] = found
        if len(self._recent) >= _CALLERS:
            del self._recent[next(iter(self._recent))]
        self._recent[id(identity)] = (identity, route, found)
        return found

    def _for_caller(self, route: str, identity: Identity) -> list[tuple[str, CompiledStatement]]:
        caller = match.caller(() if identity.kind == "anonymous" else identity.principals)
        index = self._routes.get(route)
        found = index.for_caller(caller) if index else []
        for wanted, statements in self._grants:
            if grant_matches(wanted, identity, caller):
                found.extend((_part(statement, "identity"), statement) for statement in statements)
        return found

    def of_route(self, route: str) -> tuple[CompiledStatement, ...]:
        """Every statement of a route's own policy."""
        index = self._routes.get(route)
        return index.statements if index else ()


def content_digest(resource: Mapping[str, Policy], identity: Sequence[GrantBinding]) -> str:
    """Hex SHA-256 over what the policies say; file names and line numbers do not count."""

    def policy(one: Policy) -> object:
        statements = []
        for statement in one.statements:
            said = asdict(statement)
            del said["line"]
            for condition in said["conditions"]:
                del condition["line"]
            statements.append(said)
        return [one.kind, one.version, statements]

    content = {
        "resource": {name: policy(one) for name, one in resource.items()},
        "identity": [[asdict(grant.match), [policy(one) for one in grant.policies]] for grant in identity],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def build_policy_set(resource: Mapping[str, Policy], identity: Sequence[GrantBinding]) -> PolicySet:
    """The policies in force: resource policies by route name, identity policies by whom they are attached to.

    Raises: `ValueError` when a policy stands where its kind does not belong.
    """
    for name, policy in resource.items():
        if policy.kind != "resource":
            raise ValueError(f"route `{name}` needs a resource policy")
    for grant in identity:
        if any(policy.kind != "identity" for policy in grant.policies):
            raise ValueError("a grant needs identity policies")
    digest = content_digest(resource, identity)
    return PolicySet(
        resource=MappingProxyType(dict(resource)),
        identity=tuple(identity),
        digest=digest,
        index=PolicyIndex(resource, identity, digest),
    )
