"""YAML text to plain data, with the place of every value and key kept for the messages.

PyYAML reads the events; this composer builds the data, because the stock one guesses. The reading is YAML
1.2's core: `on`, `off`, `yes` and `no` are text, `true` and `false` are the only truths. What readers of
different YAML versions take differently is refused, never guessed: numbers with leading zeros, `0x`, `_`,
`1:30` or exponents (an unquoted account id `012345678901` would lose its zero).

STRICTER: anchors, aliases, merge keys and tags are refused. A value then stands where it is used, has one
place to point at, and no small file unfolds into a large one. Null is refused: a key left empty by accident
would read as a restriction left out (S14).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from ztproxy.errors import ConfigError, Problem

Place = tuple[str | int, ...]
"""The way to a value: keys and list indexes from the root."""

MAX_DEPTH: Final = 32
_SHOWN_KEY: Final = 64

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_DISPUTED = re.compile(
    r"""[-+]?(?: [0-9][0-9_]*                               # leading zeros, underscores, more digits than a number has
               | 0[xob][0-9a-f_]+ | [0-9][0-9_]*(?::[0-9_]+)+(?:\.[0-9_]*)?     # hexadecimal, octal, base 60
               | (?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:e[-+]?[0-9]+)?      # exponents, bare points
               | \.(?:inf|nan) )""",
    re.IGNORECASE | re.VERBOSE,
)
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The data of one file and where each part of it was written."""

    file: str
    data: Any
    values: Mapping[Place, tuple[int, int]]
    """Line and column of each value, from 1."""
    keys: Mapping[Place, tuple[int, int]]
    """Line and column of each key."""
    problems: tuple[Problem, ...] = ()
    """What was wrong already in the writing; the data is usable for finding more."""

    def position(self, place: Place, *, key: bool = False) -> tuple[int, int]:
        """Where `place` was written; of something absent, where its nearest ancestor was."""
        if key and place in self.keys:
            return self.keys[place]
        for end in range(len(place), -1, -1):
            found = self.values.get(place[:end])
            if found is not None:
                return found
        return 1, 1

    def problem(self, place: Place, message: str, *, key: bool = False) -> Problem:
        """A problem at `place`, its message led by the dotted path."""
        line, column = self.position(place, key=key)
        return Problem(self.file, line, column, f"{dotted(place)}: {message}" if place else message)


def dotted(place: Place) -> str:
    """The path as messages write it: `routes.0.policy`."""
    return ".".join(str(part)[:_SHOWN_KEY] for part in place)


def compose(file: str, text: str) -> Document:
    """The one document in `text`.

    Raises: `ConfigError` when it is not YAML, is empty, or nests too deeply.
    """
    try:
        return _Composer(file).compose(_without_json_tabs(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError((Problem(file, line, column, f"is not valid YAML: {_one_line(what)}"),)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise ConfigError((Problem(file, line, column, "holds a character that YAML does not allow"),)) from None


def _one_line(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)


def _without_json_tabs(text: str) -> str:
    """JSON may be indented with tabs, YAML may not; in valid JSON a raw tab is always outside of strings."""
    if "\t" not in text or not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")


class _Composer:
    """Events to data, one node at a time; collects what it can go on after."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values: dict[Place, tuple[int, int]] = {}
        self._keys: dict[Place, tuple[int, int]] = {}
        self._problems: list[Problem] = []

    def compose(self, text: str) -> Document:
        events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            raise ConfigError((Problem(self._file, 1, 1, "the file is empty"),))
        data = self._node(next(events), events, ())
        next(events)  # the end of the document
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(after, (), "a second document begins here; a configuration is one")
        return Document(
            file=self._file, data=data, values=self._values, keys=self._keys, problems=tuple(self._problems)
        )

    def _refuse(self, event: yaml.Event, place: Place, message: str) -> None:
        line, column = _where(event)
        self._problems.append(Problem(self._file, line, column, f"{dotted(place)}: {message}" if place else message))

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> Any:
        self._values[place] = _where(event)
        if len(place) > MAX_DEPTH:
            self._refuse(event, (), f"nested more than {MAX_DEPTH} levels deep")
            raise ConfigError(tuple(self._problems))
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, place, "aliases are not supported; write the value out")
            return None
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.anchor is not None:
            self._refuse(event, place, "anchors are not supported; write the value out where it is used")
        if event.tag is not None:
            self._refuse(event, place, "tags are not supported")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, place)
        return self._mapping(events, place)

    def _sequence(self, events: Iterator[yaml.Event], place: Place) -> tuple[Any, ...]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, (*place, len(items))))
        return tuple(items)

    def _mapping(self, events: Iterator[yaml.Event], place: Place) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, events, place)
            child = (*place, key)
            if key in mapping:
                first = self._keys[child][0]
                self._refuse(event, child, f"written twice, first on line {first}")
                _skip(next(events), events)
                continue
            self._keys[child] = _where(event)
            mapping[key] = self._node(next(events), events, child)
        return mapping

    def _key(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, place, "a key must be text")
            _skip(event, events)
            return ""
        if event.anchor is not None or event.tag is not None:
            self._refuse(event, place, "anchors and tags are not supported on keys")
        text: str = event.value
        if _UNPRINTABLE.search(text):
            self._refuse(event, place, "a key holds a control character or a line break")
            return _one_line(text)
        if event.style is None:
            if text == "<<":
                self._refuse(event, place, "merge keys are not supported; write the values out")
            elif text in _NULL or text in _TRUTH or _DISPUTED.fullmatch(text):
                self._refuse(event, place, f"the key `{text[:_SHOWN_KEY]}` must be in quotes")
        return text

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Any:
        text: str = event.value
        if _UNPRINTABLE.search(text):
            text = _paired(text)
            if _UNPRINTABLE.search(text):
                self._refuse(event, place, "holds a control character or a line break")
        if event.style is not None:
            return text
        if text in _NULL:
            self._refuse(event, place, "has no value; write one or remove the key")
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _DISPUTED.fullmatch(text):
            self._refuse(
                event, place, "YAML readers disagree on this number; put text in quotes, write numbers in plain digits"
            )
        return text


def _where(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1


def _skip(event: yaml.Event, events: Iterator[yaml.Event]) -> None:
    """Read past the node that begins with `event`."""
    depth = 0
    while True:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth == 0:
            return
        event = next(events)


def _paired(text: str) -> str:
    """JSON writes characters beyond 16 bits as two escapes; join the halves, leave a lone half as it is."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
