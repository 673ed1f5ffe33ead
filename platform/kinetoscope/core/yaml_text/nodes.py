"""Values that know where they stand, in which YAML text and line."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kinetoscope.core.text import shortened


class Node(NamedTuple):
    """A value and where it stands.

    Attributes:
        value: a scalar, a dict of nodes by text, or a list of nodes.
        source: file, or what else the text is from.
        line: of the value's key, from 1; 0 where there are no lines.
    """

    value: Any
    source: str
    line: int

    @property
    def place(self) -> str:
        """Source and line, in words."""
        return f"{self.source}, line {self.line}" if self.line else self.source


def plain(node: Node) -> Any:
    """Return the value alone, sharing nothing."""
    if isinstance(node.value, dict):
        return {key: plain(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [plain(inner) for inner in node.value]
    return node.value


def shown(value: Any) -> str:
    """Return a value as an error tells it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    in_yaml = value is None or isinstance(value, bool)
    return json.dumps(value) if in_yaml else shortened(repr(value))
