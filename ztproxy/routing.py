"""Which route answers for a host and a canonical path: asked once per request (S13), many routes no slower than one.

Hosts: an exact name, then `*.example.com` (any number of labels in front, the longest suffix first), then `*`. The
routes of the more specific host are tried first; where none of their paths matches, the next one is.

Paths: a trie of segments. From left to right a literal segment beats `*` (exactly one segment, never an empty one) and
`*` beats a final `**` (everything from there on, nothing included: `/orders/**` answers for `/orders`, `/orders/` and
`/orders/42`). `/orders` and `/orders/` are two paths. Order in the configuration never matters.

Matching walks the trie and takes the second choice, `*`, where the first leads nowhere: without `*` in the patterns it
costs one dictionary access a segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ztproxy.errors import ProtocolError
from ztproxy.types import Route
from ztproxy.wire.target import canonical_target

ANY: Final = "*"
REST: Final = "**"
_WILDCARD_HOST: Final = "*."
_PATTERN_CHARACTERS: Final = re.compile(r"[!-~]+")


class _Node:
    """What may follow after the same segments."""

    __slots__ = ("any", "depth", "end", "literals", "rest")

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth
        """Index of the segment that comes next; the first one, before the leading slash, is always empty."""
        self.literals: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.end: Route | None = None
        """Of the pattern that ends here."""
        self.rest: Route | None = None
        """Of the pattern that ends here with `**`."""

    def find(self, segments: list[str]) -> Route | None:
        """The most specific route for all segments of a path."""
        node = self
        fallback: Route | None = None
        for segment in segments[node.depth :]:
            if node.rest is not None:
                fallback = node.rest
            child = node.literals.get(segment)
            if node.any is not None and segment:
                found = None if child is None else child.find(segments)
                if found is None:
                    found = node.any.find(segments)
                return fallback if found is None else found
            if child is None:
                return fallback
            node = child
        return node.end or node.rest or fallback


class RouteTable:
    """All routes of a listener, compiled; immutable once made.

    Raises: `ValueError` when two routes have the same host and path (see `conflicts`).
    """

    __slots__ = ("_any", "_exact", "_suffixes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[str, _Node] = {}
        self._suffixes: dict[str, _Node] = {}
        self._any = _Node()
        for route in routes:
            _insert(self._root(route.host), route)

    def _root(self, host: str) -> _Node:
        if host == ANY:
            return self._any
        if host.startswith(_WILDCARD_HOST):
            return self._suffixes.setdefault(host.removeprefix(_WILDCARD_HOST), _Node())
        return self._exact.setdefault(host, _Node())

    def match(self, host: str, path: str) -> Route | None:
        """The one route for a canonical host and a canonical path; None: nothing answers there."""
        segments = path.split("/")
        root = self._exact.get(host)
        if root is not None:
            route = root.find(segments)
            if route is not None:
                return route
        if self._suffixes:
            suffix = host
            while suffix:
                suffix = suffix.partition(".")[2]
                root = self._suffixes.get(suffix)
                if root is not None:
                    route = root.find(segments)
                    if route is not None:
                        return route
        return self._any.find(segments)


def _insert(root: _Node, route: Route) -> None:
    *inner, last = route.path.split("/")[1:]
    node = root
    for segment in inner if last == REST else [*inner, last]:
        if segment == ANY:
            node.any = node.any or _Node(node.depth + 1)
            node = node.any
        else:
            node = node.literals.setdefault(segment, _Node(node.depth + 1))
    taken = node.rest if last == REST else node.end
    if taken is not None:
        raise ValueError(f"routes `{taken.name}` and `{route.name}` have the same host and path")
    if last == REST:
        node.rest = route
    else:
        node.end = route


def conflicts(routes: Iterable[Route]) -> list[tuple[str, str, str]]:
    """Pairs of routes of which one could never be chosen: earlier name, later name, why."""
    first: dict[tuple[str, str], Route] = {}
    found = []
    for route in routes:
        earlier = first.setdefault((route.host, route.path), route)
        if earlier is not route:
            found.append((earlier.name, route.name, f"both answer for host `{route.host}` and path `{route.path}`"))
    return found


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a path pattern; None: nothing."""
    if not pattern.startswith("/"):
        return "must start with `/`"
    if _PATTERN_CHARACTERS.fullmatch(pattern) is None:
        return "must be visible ASCII; escape anything else (`%C3%A9`)"
    segments = pattern.split("/")[1:]
    if REST in segments[:-1]:
        return "`**` must be the last segment"
    if any(ANY in segment and segment not in (ANY, REST) for segment in segments):
        return "`*` must be a whole segment; a literal asterisk is written `%2A`"
    try:
        target = canonical_target(pattern.encode("ascii"))
    except ProtocolError as error:
        return f"can never match: {error.public.replace('the request target', 'a path that')} is refused"
    if target.query is not None:
        return "must not have a query: paths alone are matched"
    if target.path != pattern:
        return f"must be canonical: `{target.path}`"
    return None
