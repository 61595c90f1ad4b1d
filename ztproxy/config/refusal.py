"""How a field refuses a value: with the value shown, or without it where it may be a secret."""

from __future__ import annotations

from typing import Final

from pydantic_core import PydanticCustomError

REFUSED: Final = "refused"
PRIVATE: Final = "private"

_MAX_TEXT: Final = 2048


def refused(message: str) -> PydanticCustomError:
    """An error whose message is followed by the value."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message})


def private(message: str) -> PydanticCustomError:
    """An error whose value may be a secret and is not shown."""
    return PydanticCustomError(PRIVATE, "{message}", {"message": message})


def text_of(value: object) -> str:
    """The text that `value` is; nothing is converted."""
    if isinstance(value, bool) or not isinstance(value, str):
        raise refused("must be text" + ("; put it in quotes" if isinstance(value, int | float) else ""))
    if len(value) > _MAX_TEXT:
        raise refused(f"must be at most {_MAX_TEXT} characters")
    return value
