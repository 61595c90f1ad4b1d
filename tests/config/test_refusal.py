"""How fields refuse: with the value, or without it."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from ztproxy.config.refusal import PRIVATE, REFUSED, private, refused, text_of


def test_the_two_ways_of_refusing() -> None:
    assert (refused("must be {odd}").type, refused("must be {odd}").message()) == (REFUSED, "must be {odd}")
    assert (private("must be odd").type, private("must be odd").message()) == (PRIVATE, "must be odd")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "must be text; put it in quotes"),
        (1.5, "must be text; put it in quotes"),
        (True, "must be text; put it in quotes"),
        (None, "must be text"),
        ((), "must be text"),
        ({}, "must be text"),
        ("x" * 3000, "must be at most 2048 characters"),
    ],
)
def test_text_is_not_made_from_anything_else(value: object, said: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        text_of(value)
    assert error.value.message() == said


def test_text_is_text() -> None:
    assert text_of("on") == "on"
