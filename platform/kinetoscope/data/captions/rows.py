"""What a file of captions holds: rows of a video's path and its caption."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# In this order; spaces, hyphens and capitals make no difference.
PATH_KEYS = (
    *("path", "file_path", "video_path", "media_path", "clip_path", "filepath", "video_file"),
    *("file_name", "filename", "video_name", "file", "video", "clip", "media"),
    *("video_id", "videoid", "clip_id", "id", "key", "name", "url"),
)
TEXT_KEYS = (
    *("text", "caption", "captions", "cap", "prompt", "video_caption", "long_caption", "encap"),
    *("description", "sentence", "title", "name"),
)
LONGEST_CAPTION = 100_000
"""Characters; what is longer is no caption."""

_EXAMPLES = 3
_LONGEST_LITERAL = 100_000

Finds = Callable[[str], bool]
"""Tells whether a path names a video."""


@dataclass(frozen=True, slots=True)
class Row:
    """A caption for the video of a path; ``line`` counts from 1."""

    line: int
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Caption:
    """A video's caption, and where it stands: ``captions.csv:12``."""

    text: str
    origin: str


@dataclass(slots=True)
class PassedOver:
    """Rows that gave no caption: how many by reason, and the first few by their lines."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, line: int, shown: str = "") -> None:
        """Note a row."""
        self.counts[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < _EXAMPLES:
            listed.append(f"line {line}: {_short(shown)}" if shown else f"line {line}")


@dataclass(slots=True)
class ParsedList:
    """What was read of one file.

    Attributes:
        layout: what it was read as, e.g. ``table, ';', columns path and text``.
        rows: in the file's order.
        passed_over: rows that could not be read.
    """

    layout: str
    rows: list[Row] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)


class NotAListError(Exception):
    """A file holds no list of captions.

    Args:
        why: in words.
        damaged: it was meant as one, but can't be read.
    """

    def __init__(self, why: str, *, damaged: bool = False) -> None:
        super().__init__(why)
        self.why, self.damaged = why, damaged


def first_of_listed(text: str) -> str:
    """Return the first caption of a cell that holds several as a list literal; else the text."""
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST_LITERAL:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else text


def key_of(name: str) -> str:
    """Return a column's name as `PATH_KEYS` and `TEXT_KEYS` have it."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def columns_of(names: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Return the names that are among the keys, best first."""
    by_key: dict[str, str] = {}
    for name in names:
        by_key.setdefault(key_of(name), name)
    return [by_key[key] for key in keys if key in by_key]


def named_columns(
    names: Iterable[str], rows: Sequence[Mapping[str, Any]], finds: Finds
) -> tuple[str, str] | None:
    """Return the columns of path and caption.

    Of several columns that may hold paths, the one that names the most videos does.

    Returns:
        None where no column is called as paths are.

    Raises:
        NotAListError: there are paths, but no captions.
    """
    names = list(names)
    paths = columns_of(names, PATH_KEYS)
    if not paths:
        return None
    hits = {p: sum(isinstance(row.get(p), str) and finds(row[p]) for row in rows) for p in paths}
    path = max(paths, key=lambda name: hits[name])
    texts = [name for name in columns_of(names, TEXT_KEYS) if name != path]
    if texts:
        return path, texts[0]
    if hits[path] or key_of(path) == "path":
        given = ", ".join(repr(name) for name in names)
        raise NotAListError(
            f"its columns are {given}: none is called {', '.join(TEXT_KEYS[:4])}", damaged=True
        )
    return None


def one_line(text: str) -> str:
    """Return a text with single spaces where it has spaces and line ends."""
    return " ".join(text.split())


def _short(text: str, most: int = 80) -> str:
    text = one_line(text[: most * most])
    return text if len(text) <= most else text[: most - 3] + "..."
