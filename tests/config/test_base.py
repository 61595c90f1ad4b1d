"""What every model has in common."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ztproxy.config.base import Model


class Sample(Model):
    size_bytes: int = 1
    """A field."""


def test_unknown_keys_conversions_and_changes_are_refused() -> None:
    for wrong in ({"size": 1}, {"size_bytes": "1"}, {"size_bytes": True}, {"size_bytes": 1.0}):
        with pytest.raises(ValidationError):
            Sample.model_validate(wrong)
    with pytest.raises(ValidationError):
        Sample().size_bytes = 2


def test_values_are_not_in_error_texts() -> None:
    with pytest.raises(ValidationError) as error:
        Sample.model_validate({"size_bytes": "hunter2"})
    assert "hunter2" not in str(error.value)


def test_every_model_of_the_configuration_is_so() -> None:
    for model in Model.__subclasses__():
        assert model.model_config["frozen"]
        assert model.model_config["strict"]
        assert model.model_config["extra"] == "forbid"
        assert not model.LATER & set(model.model_fields), "a key that exists is not promised for later"
