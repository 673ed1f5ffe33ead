"""The values of a recipe as a tree of nodes: merged, overridden, and found again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.text import shortened
from kinetoscope.core.yaml_text.nodes import Node, shown

Path = tuple[str, ...]

# No digits of other scripts, and none in front of which a 0 stands.
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def merged(base: Node, over: Node, path: Path = ()) -> Node:
    """Return what a recipe makes of the one that it extends.

    Mappings are merged key by key, and a mapping whose keys are whole numbers changes the items of
    a list. Other lists, and choices of another ``kind``, are replaced whole.

    Raises:
        ConfigError: a list has no such item.
    """
    if not isinstance(over.value, dict):
        return over
    if isinstance(base.value, list) and over.value:
        return over._replace(value=_merged_items(base, over, path))
    if not isinstance(base.value, dict) or _is_other_kind(base.value, over.value):
        return over
    values = dict(base.value)
    for key, node in over.value.items():
        values[key] = merged(values[key], node, (*path, key)) if key in values else node
    return over._replace(value=values)


def with_value(tree: Node, path: Path, value: Node) -> Node:
    """Return a tree with one value replaced whole, and the mappings above it where there are none.

    Raises:
        ConfigError: a list has no such item, or a scalar stands above it.
    """
    return _with_value(tree, path, value, done=())


def leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted path, value) of plain values or of nodes; a list of scalars is one leaf."""
    value = tree.value if isinstance(tree, Node) else tree
    if isinstance(value, dict) and value:
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and any(map(_is_mapping, value)):
        pairs = enumerate(value)
    else:
        return [(prefix, tree)]
    return [
        leaf
        for key, inner in pairs
        for leaf in leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    ]


def child(node: Node, key: int | str) -> Node | None:
    """Return what a mapping or a list holds there, or None."""
    if isinstance(node.value, dict):
        found: Node | None = node.value.get(str(key))
        return found
    if isinstance(node.value, list) and _is_index(str(key), node.value):
        item: Node = node.value[int(key)]
        return item
    return None


def nearest(tree: Node, path: Iterable[int | str]) -> tuple[Path, Node]:
    """Return the part of a path that the tree has, and the node there."""
    known: Path = ()
    for key in path:
        found = child(tree, key)
        if found is None:
            break
        known, tree = (*known, str(key)), found
    return known, tree


def from_plain(value: Any, source: str) -> Node:
    """Return plain values as nodes that all have one source and no line."""
    if isinstance(value, dict):
        value = {str(key): from_plain(inner, source) for key, inner in value.items()}
    elif isinstance(value, list):
        value = [from_plain(inner, source) for inner in value]
    return Node(value, source, 0)


def _merged_items(base: Node, over: Node, path: Path) -> list[Node]:
    items = list(base.value)
    for key, node in over.value.items():
        if not _is_index(key, items):
            _refuse_index(items, (*path, key), node)
        items[int(key)] = merged(items[int(key)], node, (*path, key))
    return items


def _with_value(node: Node, path: Path, value: Node, done: Path) -> Node:
    if not path:
        return value
    key, rest = path[0], path[1:]
    here = (*done, key)
    if isinstance(node.value, list):
        if not _is_index(key, node.value):
            _refuse_index(node.value, here, value)
        items = list(node.value)
        items[int(key)] = _with_value(items[int(key)], rest, value, here)
        return node._replace(value=items)
    if not isinstance(node.value, dict | None):
        raise ConfigError(
            f"{value.place}: {'.'.join(here)}: {done[-1]!r} is the value "
            f"{shown(node.value)} and has no keys"
        )
    values = dict(node.value or {})
    empty = Node(None, value.source, value.line)
    values[key] = _with_value(values.get(key, empty), rest, value, here)
    return node._replace(value=values)


def _is_index(key: str, items: list[Node]) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) < len(items)


def _refuse_index(items: list[Node], path: Path, node: Node) -> NoReturn:
    allowed = f"0 to {len(items) - 1} are" if items else "it is empty"
    raise ConfigError(
        f"{node.place}: {'.'.join(path)}: {shortened(path[-1])!r} is no index of a list of "
        f"{len(items)}; {allowed}",
        hint="whole numbers as keys change items; to add or remove one, write the whole list",
    )


def _is_other_kind(base: dict[str, Node], over: dict[str, Node]) -> bool:
    return "kind" in over and ("kind" not in base or over["kind"].value != base["kind"].value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value.value if isinstance(value, Node) else value, dict)
