"""What is already certain of a caller on one connection: conditions that no further request can turn.

A condition that reads only network and identity facts has one answer for as long as both stay the same. For a caller
who comes back on the same connection those answers are worked out once: statements that cannot apply any more are left
out, the others keep only the tests that a request can still turn. The decision is the same, word for word; reasons for
a refusal are worked out from the whole policies as always (`explain.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ztproxy.authz import context
from ztproxy.authz.statement import CompiledStatement
from ztproxy.types import AccessRequest, Identity, NetworkContext

if TYPE_CHECKING:
    from ztproxy.authz.index import Candidates, Selection

_MOST_SETTLED: Final = 4096
_LARGEST_SETTLED: Final = 64
"""Statements of one caller and route beyond which the index alone is quick enough, and copies would cost memory."""
_STANDING: Final = frozenset(("ztproxy:groups", "aws:requestedregion"))
"""Functions of the request that depend on identity and route alone."""

Parts = Sequence[tuple[str, CompiledStatement]]


def is_standing(key: str, values: Sequence[str]) -> bool:
    """Whether a condition on this key, with these values, can only turn with the connection or the identity."""
    if any("${" in value for value in values):
        return False
    return context.layer(key) in ("network", "identity") or key.lower() in _STANDING


def settled(statements: Parts, request: AccessRequest) -> list[tuple[str, CompiledStatement]]:
    """The statements that may still apply to this caller here, with only the tests that are still open."""
    left = []
    for part, statement in statements:
        standing = [one for one in statement.conditions if is_standing(one.condition.key, one.condition.values)]
        if all(one.holds(request) for one in standing):
            certain = {id(one.holds) for one in standing}
            still_open = copy.copy(statement)
            still_open.tests = tuple(test for test in statement.tests if id(test) not in certain)
            left.append((part, still_open))
    return left


class SettledSelections:
    """Selections remembered for a pair of connection and identity, from the second request on."""

    __slots__ = ("_candidates", "_known", "_select")

    def __init__(self, candidates: Callable[[AccessRequest], Candidates], select: Callable[[Parts], Selection]) -> None:
        self._candidates: Final = candidates
        self._select: Final = select
        self._known: Final[dict[tuple[int, int, str, str], tuple[NetworkContext, Identity, Selection | None]]] = {}

    def selection(self, request: AccessRequest) -> Selection:
        """The statements to ask for this request."""
        network, identity, action = request.network, request.identity, request.ask.action
        key = (id(network), id(identity), request.route.name, action)
        known = self._known.get(key)
        # INVARIANT: an entry holds its connection and identity, so their ids are not those of later ones.
        if known is None:
            if len(self._known) >= _MOST_SETTLED:
                del self._known[next(iter(self._known))]
            self._known[key] = (network, identity, None)
            return self._candidates(request).select(action)
        selection = known[2]
        if selection is None:
            candidates = self._candidates(request)
            selection = candidates.select(action)
            if len(candidates.statements) <= _LARGEST_SETTLED:
                asked = [(part, one) for part, one in candidates.statements if one.action(action)]
                selection = self._select(settled(asked, request))
            self._known[key] = (network, identity, selection)
        return selection
