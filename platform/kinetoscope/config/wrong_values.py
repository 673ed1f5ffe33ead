"""Put into words what pydantic says of a wrong value, and what to write instead."""

from __future__ import annotations

import difflib
import json
from functools import cache
from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.config.tree import Path, child
from kinetoscope.core.text import shortened
from kinetoscope.core.yaml_text.nodes import Node, shown
from kinetoscope.core.yaml_text.scalars import OddScalarError, plain_scalar

_NUMBERS = ("int_type", "float_type", "int_from_float", "int_parsing", "float_parsing")
_NESTED = (dict, list)
_MAX_MESSAGE_CHARS = 600


def told_of(items: list[Any], path: Path, tree: Node) -> str:
    """Return what is wrong with one value.

    Args:
        items: pydantic's errors of the value: several where it is none of several choices.
        path: keys down to it.
        tree: that it is part of.
    """
    for item in items:
        advice = _advice(item)
        if advice:
            return f"{advice} (given: {shown(item['input'])})"
    first = items[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key{_allowed(path, tree)}"
    if first["type"] == "missing":
        return "missing"
    if first["type"] == "union_tag_invalid":
        return f"kind {first['ctx']['tag']!r} is none of {first['ctx']['expected_tags']}"
    if first["type"] == "union_tag_not_found":
        return "kind is missing, which says what the other keys are"
    message = " or: ".join(dict.fromkeys(item["msg"] for item in items))
    message = shortened(message.removeprefix("Value error, "), _MAX_MESSAGE_CHARS)
    given = first["input"]
    is_rule = isinstance(given, _NESTED) and not first["type"].endswith("_type")
    return message if is_rule else f"{message} (given: {shown(given)})"


def _advice(item: Any) -> str:
    """Return what to write instead where a value has the right look and the wrong type."""
    kind, given = item["type"], item["input"]
    if kind in _NUMBERS:
        return _number_advice(kind, given)
    if kind == "bool_type":
        return "must be true or false, without quotes"
    if kind in ("tuple_type", "list_type") and isinstance(given, dict):
        return (
            "must be a list; numbers as keys change the items of a list in the recipe that this "
            "one extends, which has none here"
        )
    is_text = kind == "string_type" or (
        kind == "literal_error" and f"'{given}'" in item["ctx"]["expected"]
    )
    if is_text and isinstance(given, bool | int | float):
        return f"must be text: put it in quotes, as {json.dumps(json.dumps(given))}"
    return ""


def _number_advice(kind: str, given: Any) -> str:
    if isinstance(given, bool):
        return "must be a number, not true or false"
    if isinstance(given, float):
        whole = f": write {given:.0f}" if given.is_integer() and abs(given) < 2**63 else ""
        return f"must be a whole number{whole}"
    if not isinstance(given, str):
        return ""
    try:
        number = plain_scalar(given.strip())
    except OddScalarError:
        return ""
    if not isinstance(number, int | float) or isinstance(number, bool):
        return ""
    if kind.startswith("int") and isinstance(number, float):
        return "must be a whole number, without quotes"
    return f"must be a number: write {given.strip()} without quotes"


def _allowed(path: Path, tree: Node) -> str:
    """Say which keys there are where an unknown one stands, the closest first."""
    schema = _schema()
    names: set[str] = set()
    nodes: list[dict[str, Any]] = [schema]
    given: Node | None = tree
    for part in path:
        options = [_resolve(schema, option) for node in nodes for option in _options(node)]
        nodes = _of_kind(options, given)
        names = {name for node in nodes for name in node.get("properties", {})}
        nodes = [
            inner
            for node in nodes
            for inner in (node.get("properties", {}).get(part), node.get("items"), *_values(node))
            if isinstance(inner, dict)
        ]
        given = child(given, part) if given else None
    close = difflib.get_close_matches(path[-1], sorted(names), n=1) if names else []
    first = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{first} allowed here: {', '.join(sorted(names))}" if names else ""


@cache
def _schema() -> dict[str, Any]:
    return RunConfig.model_json_schema()


def _values(node: dict[str, Any]) -> list[Any]:
    """Return the schemas of what a mapping with free keys holds."""
    return [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]


def _options(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [*node.get("anyOf", []), *node.get("oneOf", [])] or [node]


def _of_kind(options: list[dict[str, Any]], given: Node | None) -> list[dict[str, Any]]:
    """Keep the options that the given ``kind`` leaves."""
    named = child(given, "kind") if given else None
    kind = named.value if named else None
    kinds = [option.get("properties", {}).get("kind", {}).get("const") for option in options]
    return [o for o, other in zip(options, kinds, strict=True) if other == kind] or options


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref", "")
    found: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else node
    return found
