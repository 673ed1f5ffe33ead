"""The JSON Schema of a recipe file, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from kinetoscope.config.run import RunConfig

_INDEX = "^(0|[1-9][0-9]*)$"
_ANNOTATIONS = ("title", "description", "default")
_VALUES = ("default", "const", "enum")


def json_schema() -> dict[str, Any]:
    """Return the schema: no key is required, since a recipe may extend another."""
    schema: dict[str, Any] = _extending(RunConfig.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Kinetoscope recipe"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Recipe (name or file) whose values these override.",
    }
    return schema


def _extending(node: Any) -> Any:
    """Return a schema of what may override a value: parts of it, and items of lists by index."""
    if isinstance(node, list):
        return [_extending(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    parts = {key: value if key in _VALUES else _extending(value) for key, value in node.items()}
    if isinstance(parts.get("required"), list):
        del parts["required"]
    return _list_or_items(parts) if parts.get("type") == "array" else parts


def _list_or_items(array: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in array.items() if key in _ANNOTATIONS}
    whole = {key: value for key, value in array.items() if key not in _ANNOTATIONS}
    kinds = [*array.get("prefixItems", []), *([array["items"]] if array.get("items") else [])]
    items = {
        "type": "object",
        "description": "Changes of items of the list in the recipe that this one extends.",
        "patternProperties": {_INDEX: {"anyOf": kinds}},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {**own, "anyOf": [whole, items]}
