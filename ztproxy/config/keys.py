"""Which keys exist where: for "did you mean", for the schema's test and for the documentation's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from ztproxy.config.base import NOT_YET, Model
from ztproxy.config.document import Place
from ztproxy.config.models import Config


def unfold(annotation: Any) -> tuple[type[Model] | None, int]:
    """The model inside an annotation, if any, and how many lists and maps lie around it."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation, 0
    around = int(get_origin(annotation) in (tuple, Mapping))
    for argument in get_args(annotation):
        model, more = unfold(argument)
        if model is not None:
            return model, around + more
    return None, 0


def model_at(place: Place) -> type[Model] | None:
    """The model that owns the keys of the mapping at `place`; None where there is none."""
    model: type[Model] | None = Config
    around = 0
    for part in place:
        if around:
            around -= 1
            continue
        field = None if model is None else model.model_fields.get(str(part))
        if field is None:
            return None
        model, around = unfold(field.annotation)
    return None if around else model


def unknown_key(place: Place) -> str:
    """What to say of a key at `place` that does not exist."""
    model, key = model_at(place[:-1]), str(place[-1])
    if model is None:
        return "unknown key"
    if key in model.LATER:
        return NOT_YET
    close = closest(key, tuple(model.model_fields))
    return f"unknown key; did you mean `{close}`?" if close else "unknown key; known here: " + _listed(model)


def closest(word: str, candidates: tuple[str, ...]) -> str | None:
    """The candidate that `word` was probably meant to be."""
    folded = word[:64].lower().replace("-", "_")
    found = get_close_matches(folded, [candidate.lower() for candidate in candidates], n=1, cutoff=0.6)
    return next((candidate for candidate in candidates if found and candidate.lower() == found[0]), None)


def _listed(model: type[Model]) -> str:
    return ", ".join(f"`{name}`" for name in model.model_fields)


def all_keys(model: type[Model] = Config, prefix: str = "") -> Iterator[str]:
    """Every key as the documentation writes it: `listeners[].tls.minimum`, `network.vpc_endpoints.*.vpc`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner, around = unfold(field.annotation)
        if inner is not None:
            mapped = any(get_origin(part) is Mapping for part in (field.annotation, *get_args(field.annotation)))
            yield from all_keys(inner, f"{prefix}{name}{'.*' if mapped else '[]' * around}.")
