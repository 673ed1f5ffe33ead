"""Walks values.schema.json: what values there are, of which types."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rendering import CHART

Node = Mapping[str, Any]

_EXAMPLES: Mapping[str, Any] = {
    "object": {"wrong": 1},
    "string": "wrong",
    "array": [{"wrong": 1}],
    "boolean": True,
    "number": 1.5,
    "integer": 7,
}


@dataclass(frozen=True)
class Value:
    """A value that a user can set.

    Attributes:
        path: keys from the root; no list positions, so a list is one value.
        node: its schema, references resolved.
    """

    path: tuple[str, ...]
    node: Node

    def __str__(self) -> str:
        return ".".join(self.path)

    @property
    def is_section(self) -> bool:
        return "properties" in self.node

    def nested(self, value: object) -> dict[str, Any]:
        """A values file in which just this is set."""
        return nest(self.path, value)

    def wrong(self) -> object:
        """Something of a type that the schema does not allow here."""
        allowed = types(self.node)
        if "number" in allowed:
            allowed = allowed | {"integer"}
        return next(example for name, example in _EXAMPLES.items() if name not in allowed)


def nest(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


@functools.cache
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return loaded


def values() -> list[Value]:
    """Every value and section of the chart, without what is inside lists and maps."""
    return list(_values(resolved(schema()), ()))


def types(node: Node) -> set[str]:
    """The JSON types that a schema allows."""
    branches = [*node.get("anyOf", []), *node.get("oneOf", [])]
    if branches:
        return {name for branch in branches for name in types(resolved(branch))}
    if "enum" in node or "const" in node:
        return {_type_of(value) for value in node.get("enum", [node.get("const")])}
    declared = node.get("type", [])
    return {declared} if isinstance(declared, str) else set(declared)


def resolved(node: Node) -> Node:
    """The schema with its own `$ref` (into this file) followed."""
    while "$ref" in node:
        target: Node = schema()
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def object_schemas() -> list[tuple[str, Node]]:
    """(place, schema) of every schema that allows an object, at any depth, lists included."""
    return [(where, node) for where, node in _all(schema(), "") if "object" in types(node)]


def _values(node: Node, path: tuple[str, ...]) -> Iterator[Value]:
    for key, child in node.get("properties", {}).items():
        value = Value((*path, key), resolved(child))
        yield value
        yield from _values(value.node, value.path)


def _all(node: Node, where: str) -> Iterator[tuple[str, Node]]:
    node = resolved(node)
    yield where, node
    for key, child in node.get("properties", {}).items():
        yield from _all(child, f"{where}.{key}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), Mapping):
            yield from _all(node[key], f"{where}[]")
    for key in ("anyOf", "oneOf"):
        for branch in node.get(key, []):
            yield from _all(branch, where)


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")
