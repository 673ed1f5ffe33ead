"""From the events of a YAML text to nodes, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.text import printable, shortened
from kinetoscope.core.yaml_text.nodes import Node
from kinetoscope.core.yaml_text.scalars import OddScalarError, plain_scalar

# libyaml's parser where PyYAML was built with it: the same events, ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 64
# The largest recipe of ours has 840.
_MAX_NODES = 5_000
_MAX_PATH_CHARS = 200
_SHOWN_BEFORE, _SHOWN_AFTER = 50, 20
_MERGE = "<<"
_KEY_CONTEXT = "while scanning a simple key"


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    value: Any
    line: int
    anchor: str | None
    nodes_before: int
    key: str | None = None
    key_line: int = 0
    merged: list[Node] | None = None
    merging: bool = False
    height: int = 1


@dataclass(slots=True)
class _Anchor:
    """What an alias stands for: None until it is whole."""

    node: Node | None = None
    num_nodes: int = 0
    height: int = 0


@dataclass
class Composer:
    """Makes the node of one text.

    Args:
        source: where the text is from, for errors.
        at: key that the text is the value of, for errors; such a text has no lines.
        kubernetes: as of `parse_yaml`.
        secret: likewise.
    """

    source: str
    at: str = ""
    kubernetes: bool = False
    secret: bool = False
    _stack: list[_Open] = field(default_factory=list)
    _anchors: dict[str, _Anchor] = field(default_factory=dict)
    _num_nodes: int = 0
    _root: Node | None = None

    def compose(self, text: str) -> Node:
        """Return the text's node; raises ``ConfigError``."""
        takers = {
            yaml.ScalarEvent: self._take_scalar,
            yaml.AliasEvent: self._take_alias,
            yaml.MappingStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceStartEvent: self._open,
            yaml.SequenceEndEvent: self._close,
            yaml.DocumentStartEvent: self._begin_document,
        }
        try:
            for event in yaml.parse(text, Loader=_LOADER):  # noqa: TID251 - this is that place
                taker = takers.get(type(event))
                if taker is not None:
                    taker(event)
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error, text.splitlines())
        return self._root or Node(None, self.source, self._line(1))

    def _refuse_syntax(self, error: yaml.MarkedYAMLError, rows: list[str]) -> NoReturn:
        mark, start = error.problem_mark, error.context_mark
        if error.context == _KEY_CONTEXT:  # that no ':' follows is found where the next one begins
            mark = start
        line, column = (mark.line, mark.column) if mark else (0, 0)
        begin = start.line if start else line
        context = f" {error.context}" if error.context else ""
        context += f" that begins in line {begin + 1}" if begin != line and not self.at else ""
        row = rows[line] if line < len(rows) else ""
        problem = "a tab can't stand here" if row[column : column + 1] == "\t" else error.problem
        self.refuse(
            f"this is not valid YAML: {problem}{context}{self.excerpt(row, column)}",
            line=line + 1,
            hint="indent with spaces, and put quotes around text with special characters",
        )

    def excerpt(self, row: str, column: int) -> str:
        """Return what stands around a column of a line, for an error, where it may be told."""
        start = max(0, column - _SHOWN_BEFORE)
        text = printable(row[start : column + _SHOWN_AFTER].strip())
        if self.secret or not text:
            return ""
        return f", in '{'...' if start else ''}{text}'"

    def refuse(self, told: str, *, line: int, hint: str | None = None) -> NoReturn:
        """Raise ``ConfigError`` that names source, line and the key that was being read."""
        place = Node(None, self.source, self._line(line)).place
        path = "" if self.secret else shortened(".".join(self._path()), _MAX_PATH_CHARS)
        raise ConfigError(": ".join(filter(None, (place, path, told))), hint=hint)

    def _begin_document(self, event: Any) -> None:
        if self._root is not None:
            self.refuse(
                "a second document begins here; one is read",
                line=event.start_mark.line + 1,
                hint="remove '---' and what follows, or save it to a file of its own",
            )

    def _take_scalar(self, event: Any) -> None:
        line = event.start_mark.line + 1
        self._check_start(event, line)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is None and isinstance(frame.value, dict):
            frame.key, frame.key_line = self._key(event, frame, line), line
            return
        value = self._scalar(event, line)
        self._count(1, line)
        node = Node(value, self.source, self._line(line))
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(node, 1)
        self._add(node, line, height=0)

    def _key(self, event: Any, frame: _Open, line: int) -> str:
        text: str = event.value
        if text == _MERGE and not event.style:
            return self._begin_merge(frame, line)
        what = self._told("the key", text)
        value = self._scalar(event, line, what)
        if not isinstance(value, str) and (type(value) is not int or value < 0):
            self.refuse(f"{what} is no text", line=line, hint="put it in quotes")
        if event.anchor:
            self.refuse(f"{what} has an anchor", line=line)
        key = str(value)
        if key in frame.value:
            frame.key = key
            first = frame.value[key].line
            where = f", first in line {first}" if first else ""
            self.refuse(f"this key is given twice{where}", line=line, hint="keep one of them")
        return key

    def _begin_merge(self, frame: _Open, line: int) -> str:
        if frame.merged is not None:
            self.refuse("'<<' is given twice", line=line, hint="write <<: [*first, *second]")
        frame.merged, frame.merging = [], True
        return _MERGE

    def _scalar(self, event: Any, line: int, what: str = "") -> Any:
        text: str = event.value
        if event.style:
            if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
                self.refuse("text can hold no NUL and no half of a character", line=line)
            return text
        try:
            return plain_scalar(text, octal=self.kubernetes)
        except OddScalarError as error:
            what = what or self._told("the value", text)
            self.refuse(f"{what} {error.told}", line=line, hint=error.hint)

    def _open(self, event: Any) -> None:
        line = event.start_mark.line + 1
        self._check_start(event, line)
        self._check_not_key(line)
        self._check_depth(1, line)
        if event.anchor:
            self._anchors[event.anchor] = _Anchor()
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, line, event.anchor, self._num_nodes))
        self._count(1, line)

    def _close(self, _: Any) -> None:
        frame = self._stack.pop()
        value = frame.value
        if frame.merged:
            # Of several mappings the first wins, and what is written here wins over all.
            value = {k: v for node in reversed(frame.merged) for k, v in node.value.items()}
            value |= frame.value
        node = Node(value, self.source, self._line(frame.line))
        if frame.anchor:
            size = self._num_nodes - frame.nodes_before
            self._anchors[frame.anchor] = _Anchor(node, size, frame.height)
        self._add(node, frame.line, frame.height)

    def _take_alias(self, event: Any) -> None:
        line = event.start_mark.line + 1
        self._check_not_key(line)
        anchor = self._anchors.get(event.anchor)
        what = self._told("the alias", event.anchor)
        if anchor is None:
            self.refuse(f"{what} has no anchor above it", line=line)
        if anchor.node is None:
            self.refuse(f"{what} stands in its own value", line=line)
        self._check_depth(anchor.height, line)
        self._count(anchor.num_nodes, line)
        self._add(anchor.node, line, anchor.height)

    def _add(self, node: Node, line: int, height: int) -> None:
        """Put a whole node where it belongs."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.value, list):
            frame.value.append(node)
        elif frame.merging and frame.merged is not None:
            frame.merged += self._mappings(node, line)
            frame.key, frame.merging = None, False
        else:
            frame.value[frame.key] = Node(node.value, node.source, self._line(frame.key_line))
            frame.key = None

    def _mappings(self, node: Node, line: int) -> list[Node]:
        nodes = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(inner.value, dict) for inner in nodes):
            self.refuse("'<<' takes a mapping, or a list of mappings", line=line)
        return nodes

    def _check_start(self, event: Any, line: int) -> None:
        if event.tag is not None:
            self.refuse(
                f"{self._told('the tag', event.tag)} is not read",
                line=line,
                hint="write a plain value: numbers and true/false without quotes, text in quotes",
            )
        if event.anchor in self._anchors:
            self.refuse(f"{self._told('the anchor', event.anchor)} is given twice", line=line)

    def _check_not_key(self, line: int) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self.refuse("a key is text, no mapping, list or alias", line=line)

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._stack) + height > _MAX_DEPTH:
            self.refuse(f"this is nested more than {_MAX_DEPTH} deep", line=line)

    def _count(self, more: int, line: int) -> None:
        self._num_nodes += more
        if self._num_nodes > _MAX_NODES:
            self.refuse(
                f"there are more than {_MAX_NODES:,} values, each counted as often as its anchor "
                "is used",
                line=line,
            )

    def _told(self, what: str, text: str) -> str:
        return what if self.secret else f"{what} {shortened(text)!r}"

    def _path(self) -> list[str]:
        inner = [
            str(len(frame.value)) if isinstance(frame.value, list) else frame.key
            for frame in self._stack
        ]
        return [part for part in (self.at, *inner) if part]

    def _line(self, line: int) -> int:
        return 0 if self.at else line
