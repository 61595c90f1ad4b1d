"""YAML or JSON text as a tree that remembers where everything stands, and interprets nothing.

Every scalar stays the text that was written: `on`, `2012-10-17` and `012345678901` are texts, not a boolean, a date
and an octal number. Aliases, tags and several documents are refused, so the tree is no larger than the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from ztproxy.errors import ConfigError, Problem

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPTH: Final = 16
_TAB_OUTSIDE_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\t', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One text; `null` when nothing was written."""

    line: int
    column: int
    text: str
    null: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A sequence."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Pairs in the order written, duplicates included."""

    line: int
    column: int
    pairs: list[tuple[Scalar, Node]] = field(default_factory=list)


Node = Scalar | Listing | Mapping


def compose(text: str, *, file: str) -> Node:
    """The tree of one document.

    Raises: `ConfigError` with the one place where the text stops making sense.
    """
    if text.lstrip().startswith("{"):
        # JSON may be indented with tabs, which YAML may not; inside strings they stay.
        text = _TAB_OUTSIDE_TEXT.sub(lambda found: " " if found.group() == "\t" else found.group(), text)
    try:
        events = yaml.parse(text, Loader=_LOADER)
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            raise _error(file, 1, 1, "the file is empty")
        root = _node(events, next(events), file, 0)
        next(events)
        extra = next(events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise _error(file, *_place(extra), "one document is expected, a second begins here")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(file, mark.line + 1, mark.column + 1, f"not valid YAML or JSON: {error.problem}") from None  # type: ignore[union-attr]
    except yaml.YAMLError as error:
        raise _error(file, 1, 1, f"not valid YAML or JSON: {str(error).splitlines()[0]}") from None
    return root


def _error(file: str, line: int, column: int, message: str) -> ConfigError:
    return ConfigError((Problem(file, line, column, message),))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _node(events: Iterator[Any], event: Any, file: str, depth: int) -> Node:
    line, column = _place(event)
    if depth > DEPTH:
        raise _error(file, line, column, f"nested more than {DEPTH} levels deep")
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _error(file, line, column, "anchors and aliases are not accepted: write the value where it is used")
    if event.tag not in (None, "!"):
        raise _error(file, line, column, f"the tag `{event.tag}` is not accepted")
    if isinstance(event, yaml.ScalarEvent):
        plain_null = event.style in (None, "") and event.value in ("", "~", "null", "Null", "NULL")
        return Scalar(line=line, column=column, text=event.value, null=plain_null)
    if isinstance(event, yaml.SequenceStartEvent):
        listing = Listing(line=line, column=column)
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            listing.items.append(_node(events, event, file, depth + 1))
        return listing
    mapping = Mapping(line=line, column=column)
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(events, event, file, depth + 1)
        if not isinstance(key, Scalar):
            raise _error(file, key.line, key.column, "a key must be a text")
        mapping.pairs.append((key, _node(events, next(events), file, depth + 1)))
    return mapping
