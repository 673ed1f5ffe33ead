"""Say what is wrong in a config: the key, the value, and what is allowed there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError
from kinetoscope.models.kinds import unusable_kind


def validated(tree: dict[str, Any], source: str) -> RunConfig:
    """Return the config that a tree of plain values describes.

    Args:
        tree: by key.
        source: what it is, for an error.

    Raises:
        ConfigError: naming each key that is wrong, its value and what is allowed.
    """
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        lines = "\n  ".join(_problems(error, tree))
        kind = unusable_kind(error)
        raise ConfigError(
            f"{source} is not a valid config:\n  {lines}",
            hint=(kind and kind.hint)
            or "kino config show RECIPE prints all keys, kino config schema what they allow",
        ) from None


def _problems(error: ValidationError, tree: dict[str, Any]) -> list[str]:
    lines = []
    for item in error.errors():
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic also counts the entries that are wrong, each told by itself
        path = ".".join(str(part) for part in item["loc"]) or "the config"
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key{_allowed(item['loc'], tree)}")
        elif item["type"] == "missing":
            lines.append(f"{path}: missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = item["input"]
            nested = isinstance(given, dict | list | tuple | BaseModel)
            shown = "" if nested else f" (given: {given!r})"
            lines.append(f"{path}: {message}{shown}")
    return lines


def _allowed(loc: tuple[int | str, ...], tree: Any) -> str:
    """Say which keys there are where an unknown one stands, the closest first."""
    schema = RunConfig.model_json_schema()
    names: set[str] = set()
    nodes, given = [schema], tree
    for part in loc:
        options = [_resolve(schema, option) for node in nodes for option in _options(node)]
        nodes = _of_kind(options, given)
        names = {name for node in nodes for name in node.get("properties", {})}
        nodes = [
            child
            for node in nodes
            for child in (node.get("properties", {}).get(part), node.get("items"))
            if child is not None
        ]
        given = _at(given, part)
    close = difflib.get_close_matches(str(loc[-1]), sorted(names), n=1)
    first = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{first} allowed here: {', '.join(sorted(names))}" if names else ""


def _options(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [*node.get("anyOf", []), *node.get("oneOf", [])] or [node]


def _of_kind(options: list[dict[str, Any]], given: Any) -> list[dict[str, Any]]:
    """Keep the options that the given ``kind`` leaves."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    kinds = [option.get("properties", {}).get("kind", {}).get("const") for option in options]
    return [o for o, other in zip(options, kinds, strict=True) if other == kind] or options


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref", "")
    found: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else node
    return found


def _at(tree: Any, part: int | str) -> Any:
    try:
        return tree[part]
    except (KeyError, IndexError, TypeError):
        return None
