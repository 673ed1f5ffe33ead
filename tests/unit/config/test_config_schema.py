"""The schema for editors, tried on recipes as an editor would."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kinetoscope.config.load import list_recipes, load_config
from kinetoscope.config.run import RunConfig
from kinetoscope.config.schema import json_schema

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def _fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Tell whether a value has the keys and types of a schema; of the rest nothing is looked at."""
    if "$ref" in schema:
        return _fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return any(_fits(value, choice, root) for choice in choices)
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if isinstance(value, dict):
        return schema.get("type") == "object" and _keys_fit(value, schema, root)
    if isinstance(value, list):
        items = schema.get("prefixItems") or [schema.get("items")] * len(value)
        return schema.get("type") == "array" and all(
            _fits(item, inner, root) for item, inner in zip(value, items, strict=True)
        )
    if schema.get("type") in ("integer", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[schema["type"]])


def _keys_fit(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if set(schema.get("required", ())) - value.keys():
        return False
    for key, inner in value.items():
        patterns = schema.get("patternProperties", {}).items()
        found = [one for pattern, one in patterns if re.search(pattern, key)]
        found += [schema["properties"][key]] if key in schema.get("properties", {}) else []
        rest = schema.get("additionalProperties", True)
        if not found and isinstance(rest, dict):
            found = [rest]
        if not all(_fits(inner, one, root) for one in found) or (not found and rest is False):
            return False
    return True


def _accepts(recipe: dict[str, Any]) -> bool:
    schema = json_schema()
    return _fits(recipe, schema, schema)


def test_the_schema_names_every_key() -> None:
    assert set(RunConfig.model_fields) | {"extends"} == set(json_schema()["properties"])


@pytest.mark.parametrize("recipe", list_recipes())
def test_whole_recipes_fit(recipe: str) -> None:
    assert _accepts(load_config(recipe).config.to_json())


@pytest.mark.parametrize(
    "recipe",
    [
        {"extends": "tiny"},
        {"train_dit": {"0": {"loop": {"num_steps": 5}}}},
        {"train_dit": {"12": {"plan": {"buckets": {"0": {"batch_size": 2}}}}}},
        {"train_vae": {"0": {"loop": {"optimizer": {"betas": {"1": 0.5}}}}}},
        {"train_spatial_vae": {"loop": {"num_steps": 5}}},
    ],
)
def test_parts_of_recipes_and_items_of_lists_fit(recipe: dict[str, Any]) -> None:
    assert _accepts(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        {"train_dit": {"0": {"loop": {"num_step": 5}}}},
        {"train_dit": {"x": {"loop": {"num_steps": 5}}}},
        {"train_dit": {"01": {}}},
        {"train_dit": {"0": [1]}},
        {"seed": "17"},
        {"extends": 5},
    ],
)
def test_what_is_refused_fits_not(recipe: dict[str, Any]) -> None:
    assert not _accepts(recipe)
