"""The JSON Schema of the configuration, for editors: `python -m ztproxy.config.schema > config/schema.json`.

It follows the models; what only `ztproxy check` can know (files, references, other keys) is not in it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ztproxy.config.models import Config


def json_schema() -> dict[str, Any]:
    """The schema, JSON Schema 2020-12."""
    schema = _as_loaded(Config.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ztproxy configuration", **schema}


def render() -> str:
    """The bytes of `config/schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=True) + "\n"


def _as_loaded(node: Any) -> Any:
    """The same schema without nulls, which the loader refuses, and without titles that repeat the key."""
    if isinstance(node, list):
        return [_as_loaded(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _as_loaded(value) for name, value in inner.items()}
        if key in ("properties", "$defs")
        else _as_loaded(inner)
        for key, inner in node.items()
        if not (key == "title" and isinstance(inner, str)) and not (key == "default" and inner is None)
    }
    alternatives = kept.get("anyOf")
    if alternatives is not None and len(alternatives) == 1:
        del kept["anyOf"]
        kept = {**alternatives[0], **kept}
    return kept


if __name__ == "__main__":
    sys.stdout.write(render())
