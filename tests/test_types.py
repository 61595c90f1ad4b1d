"""The nouns cannot be changed, a decision has no truth value, a secret shows itself to nobody."""

from __future__ import annotations

import dataclasses
import json
import pickle

import orjson
import pytest

from ztproxy import types
from ztproxy.types import Decision, Effect, Meter, RouteLimits, Secret, StatementRef

NOUNS = [each for each in vars(types).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: str(noun.__name__))
def test_a_noun_is_frozen_and_holds_no_collection_that_changes(noun: type) -> None:
    parameters = noun.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen
    assert "__slots__" in vars(noun)
    assert all(field.kw_only for field in dataclasses.fields(noun))
    mutable = [field.name for field in dataclasses.fields(noun) if str(field.type).startswith(("list", "dict", "set"))]
    assert mutable == []


def test_a_noun_cannot_be_changed() -> None:
    limits = RouteLimits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.body_bytes = 0  # type: ignore[misc]


@pytest.mark.parametrize("effect", Effect)
def test_a_decision_is_asked_for_allowed_and_never_for_its_truth(effect: Effect) -> None:
    decision = Decision(effect=effect)
    assert decision.allowed is (effect is Effect.ALLOW)
    with pytest.raises(TypeError, match="never for its truth"):
        bool(decision)


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(b"hunter2")
    assert secret.reveal() == b"hunter2"
    assert [repr(secret), str(secret), f"{secret}", f"{[secret]}"] == ["<secret>"] * 3 + ["[<secret>]"]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"it": secret})
    with pytest.raises(TypeError):
        orjson.dumps({"it": secret})
    assert not hasattr(secret, "__dict__")


def test_a_statement_is_named_for_people() -> None:
    named = StatementRef(source="orders.yaml", line=12, sid="ReadOrders", policy_kind="resource")
    unnamed = StatementRef(source="orders.yaml", line=20, sid=None, policy_kind="resource")
    assert [str(named), str(unnamed)] == ["ReadOrders (orders.yaml:12)", "statement (orders.yaml:20)"]


def test_a_meter_starts_at_nothing() -> None:
    meter = Meter()
    assert (meter.bytes_in, meter.bytes_out, meter.status, meter.closed) == (0, 0, 0, False)
