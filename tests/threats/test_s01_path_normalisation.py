"""S01: a path means one thing, to the route, to the policy and to the upstream; any other is refused.

The readers below are what real upstreams do with a path. For every spelling that gets through, none of them may arrive
anywhere but at the very path that was routed and judged.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from tests.test_routing import route
from ztproxy.errors import ProtocolError
from ztproxy.routing import RouteTable
from ztproxy.wire.target import EMPTY_SEGMENTS, ENCODED_SLASHES, NOTHING, SEMICOLONS, canonical_target

DOTS = (
    *("..", "%2e%2e", ".%2E", "...", "..%20", "%20..", "..;", "..;x=y", "..%3b", "..%00", "..%09", "%252e%252e"),
    *("%EF%BC%8E%EF%BC%8E", "%E2%80%A5", "%E2%80%A4.", "%c0%ae%c0%ae", "..%C2%A0", ".%E2%80%8B.", "..%E2%80%8B"),
)
SLASHES = ("/", "//", "%2f", "%2F", "%5c", "\\", "%255c", "%252f", "%EF%BC%8F", "%c0%af", "/./", "/;/", "/%20/")
ESCAPES = tuple(f"%{byte:02x}" for byte in range(256))

READERS: tuple[Callable[[str], str], ...] = (
    lambda path: path,
    unquote,
    lambda path: unquote(unquote(path)),
    lambda path: unicodedata.normalize("NFKC", unquote(path)),
    lambda path: re.sub(r";[^/]*", "", path),
    lambda path: re.sub(r";[^/]*", "", unquote(path)),
    lambda path: unquote(path).replace("\\", "/"),
    lambda path: unquote(path).partition("\0")[0],
)


Segments = tuple[str, ...]


def resolve(path: str) -> Segments:
    """The segments an eager reader is left with: slashes merged, padding around dots dropped, dot segments removed."""
    kept: list[str] = []
    for segment in path.split("/"):
        bare = segment.strip(" \t\u200b")
        if bare and not bare.strip("."):
            if len(bare) > 1:
                kept = kept[:-1]
        elif bare:
            kept.append(segment)
    return tuple(kept)


def readings(path: str) -> set[Segments]:
    return {resolve(reader(path)) for reader in READERS}


def judged(path: str) -> set[Segments]:
    """The segments that route and policy saw: as they are, decoded, folded; never more or fewer of them."""
    raw = tuple(segment for segment in path.split("/") if segment)
    decoded = tuple(map(unquote, raw))
    return {raw, decoded, tuple(unicodedata.normalize("NFKC", segment) for segment in decoded)}


def spellings() -> list[str]:
    walks = [f"/app{before}{dots}{after}admin" for before, dots, after in itertools.product(SLASHES, DOTS, SLASHES)]
    plain = [f"/app/x{slash}admin" for slash in SLASHES] + [f"/app/x{escape}" for escape in ESCAPES]
    return walks + plain + [f"{slash}admin" for slash in SLASHES[1:]] + [f"/app{escape}admin" for escape in ESCAPES]


def test_no_reader_finds_another_path_than_the_one_judged() -> None:
    forwarded = 0
    for spelling in spellings():
        try:
            target = canonical_target(spelling.encode("ascii"))
        except ProtocolError:
            continue
        forwarded += 1
        assert target.forward == target.path.encode("ascii")
        assert readings(target.path) <= judged(target.path)
        assert ("admin",) not in readings(target.path)
    assert forwarded > 100  # the rule does not just refuse everything


@pytest.mark.parametrize("allow", [NOTHING, frozenset((SEMICOLONS, ENCODED_SLASHES, EMPTY_SEGMENTS))])
@pytest.mark.parametrize("dots", DOTS)
def test_no_spelling_of_a_dot_segment_gets_through(dots: str, allow: frozenset[str]) -> None:
    for before, after in itertools.product(SLASHES, repeat=2):
        with pytest.raises(ProtocolError) as caught:
            canonical_target(f"/app{before}{dots}{after}admin".encode("ascii"), allow=allow)
        assert (caught.value.code, caught.value.status) == ("protocol.target", 400)


@pytest.mark.parametrize("spelling", ["/admin", "/%61dmin", "/adm%69n", "/%61%64%6d%69%6e"])
def test_every_spelling_of_a_path_takes_the_same_route(spelling: str) -> None:
    routes = RouteTable([route("*", "/admin/**", "admin"), route("*", "/**", "open")])
    target = canonical_target(spelling.encode("ascii"))
    found = routes.match("app.example.com", target.path)
    assert found is not None
    assert (found.name, target.forward) == ("admin", b"/admin")
