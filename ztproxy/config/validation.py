"""Plain data to models, with every finding in the operator's words and at its place.

The words of the validation library never reach anyone: each kind of finding has its own here. Values are
shown only for findings whose value cannot be a secret; lists and mappings are named, not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ztproxy.config.document import Document
from ztproxy.config.keys import unknown_key
from ztproxy.config.models import Config
from ztproxy.config.refusal import PRIVATE, REFUSED
from ztproxy.errors import Problem

_SHOWN: Final = 60
_FORMS: Final = (("=none",), ("=rule",))
"""Tags of the two forms of `authenticate`; they stand in the library's paths and in no file."""
_MAP_KEY: Final = "[key]"
_SHAPES: Final = {
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
_NUMBERS: Final = {"int_type": "must be a whole number", "float_type": "must be a number"}
_BOUNDS: Final = {
    "greater_than": ("must be more than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than_equal": ("must be at most {}", "le"),
}


def validate(document: Document, base: Path) -> tuple[Config | None, tuple[Problem, ...]]:
    """The configuration in `document`, or everything wrong with it; relative paths count from `base`."""
    try:
        config = Config.model_validate(document.data, context={"base": base})
    except ValidationError as invalid:
        # The exception holds the values; nothing of it may be chained to what is raised later.
        found = tuple(_problem(document, error) for error in invalid.errors(include_url=False))
        return None, found
    return config, ()


def _problem(document: Document, error: ErrorDetails) -> Problem:
    kind, place = error["type"], error["loc"]
    if place[2:3] == ("authenticate",) and place[3:4] in _FORMS:
        place = place[:3] + place[4:]
    if kind == "extra_forbidden":
        return document.problem(place, unknown_key(place), key=True)
    if kind == "missing":
        return document.problem(place, "is required")
    if place and place[-1] == _MAP_KEY:
        return document.problem(place[:-1], _message(error), key=True)
    return document.problem(place, _message(error))


def _message(error: ErrorDetails) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == PRIVATE:
        return str(context["message"])
    if kind == REFUSED:
        return f"{context['message']} {_got(given)}"
    if kind in _SHAPES:
        return f"{_SHAPES[kind]} (got {_kind(given)})"
    if kind in _NUMBERS:
        return f"{_NUMBERS[kind]} {_got(given)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{words.format(_number(context[bound]))} {_got(given)}"
    if kind == "literal_error":
        return _choice(str(context["expected"]), given)
    return f"is not valid: {kind.replace('_', ' ')}"


def _choice(expected: str, given: Any) -> str:
    words = expected.replace("'", "`").replace(" or ", ", ")
    quotes = ", in quotes" if not isinstance(given, str) and f"`{given}`" in words else ""
    only = "must be" if "," not in words else "must be one of"
    return f"{only} {words}{quotes} {_got(given)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a number" if isinstance(value, int | float) else "nothing"


def _got(value: Any) -> str:
    if isinstance(value, bool):
        return f"(got {str(value).lower()})"
    if isinstance(value, int | float):
        return f"(got {value})"
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        return f"(got `{shown}`)"
    return f"(got {_kind(value)})"
