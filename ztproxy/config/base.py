"""What every part of a configuration is: frozen, strict, without unknown keys."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict

NOT_YET: Final = "not supported by this version yet"


class Model(BaseModel):
    """Base of all: frozen, strict, no unknown keys, no values in error texts."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )
    LATER: ClassVar[frozenset[str]] = frozenset()
