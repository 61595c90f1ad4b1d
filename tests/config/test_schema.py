"""The schema for editors is the models', and the committed file is fresh."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from ztproxy.config.keys import all_keys
from ztproxy.config.schema import json_schema, render

COMMITTED = Path(__file__).parents[2] / "config" / "schema.json"


def test_committed_schema_is_fresh() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == render(), (
        "run: python -m ztproxy.config.schema > config/schema.json"
    )


def test_module_prints_it(capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    runpy.run_path(str(Path(render.__code__.co_filename)), run_name="__main__")
    assert capsys.readouterr().out == render()


def nodes(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for item in node for found in nodes(item)]
    if not isinstance(node, dict):
        return []
    return [node, *(found for value in node.values() for found in nodes(value))]


def keys(node: Any, definitions: dict[str, Any], prefix: str = "") -> set[str]:
    """Every key the schema knows, written as `all_keys` writes it."""
    if "$ref" in node:
        return keys(definitions[node["$ref"].rpartition("/")[2]], definitions, prefix)
    found = set()
    for name, inner in node.get("properties", {}).items():
        found |= {prefix + name} | keys(inner, definitions, f"{prefix}{name}.")
    for form in ("anyOf", "oneOf", "allOf"):
        for inner in node.get(form, ()):
            found |= keys(inner, definitions, prefix)
    if "items" in node:
        found |= keys(node["items"], definitions, prefix.removesuffix(".") + "[].")
    for inner in [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]:
        if isinstance(inner, dict):
            found |= keys(inner, definitions, prefix + "*.")
    return found


def test_schema_knows_every_key_and_no_other() -> None:
    schema = json_schema()
    assert keys(schema, schema["$defs"]) == set(all_keys())


def test_schema_forbids_unknown_keys_and_nulls() -> None:
    found = nodes(json_schema())
    models = [node for node in found if isinstance(node.get("properties"), dict) and node.get("type") == "object"]
    assert len(models) > 15
    assert all(node["additionalProperties"] is False for node in models)
    assert {"type": "null"} not in found
    assert json.loads(render()) == json_schema()
