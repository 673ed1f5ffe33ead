"""The one place that prints: lines and tables for people, JSON for scripts.

Whatever is shown goes through `kinetoscope.core.text`, so that no name, caption or message of
others moves the cursor, changes colours or adds a line to a table.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import typer

from kinetoscope.core.text import printable, printable_lines

ANOTHER_WORKSPACE = "KINO_WORKSPACE names another, kino run makes one"
"""What to do where there is no workspace."""

_WIDE = 200
_SHOWN_ITEMS = 10
# Streams whose reader has gone.
_unread: list[TextIO] = []


def say(*lines: str, err: bool = False) -> None:
    """Write lines: each stays one line, whatever is in it."""
    _write("".join(f"{printable(line)}\n" for line in lines), err=err)


def say_message(label: str, message: str) -> None:
    """Write an error or a hint to stderr.

    A line break counts where spaces follow: so no name in a message can begin a line of its own.
    """
    first, *others = message.split("\n  ")
    say(f"{label}: {first}", *(f"  {line}" for line in others), err=True)


def say_log(text: str) -> None:
    """Write a piece of a log, which keeps its lines."""
    _write(printable_lines(text))


def show_count(text: str) -> None:
    """Write a count over the one before it, where stderr is a terminal."""
    if sys.stderr.isatty():
        _write(f"\r{printable(text)}", err=True)


def end_count() -> None:
    """End the line of a count."""
    if sys.stderr.isatty():
        _write("\n", err=True)


def emit_json(value: Any) -> None:
    """Write one indented JSON document; it is ASCII, in which JSON escapes all else exactly."""
    _write(f"{json.dumps(value, indent=1, default=str)}\n")


def confirm(question: str) -> bool:
    """Ask on the terminal; raises ``typer.Abort`` where nobody answers."""
    return typer.confirm(printable(question), err=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of left-aligned columns two spaces apart."""
    lines = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def first_of(lines: Sequence[str], rest: str) -> list[str]:
    """Return the first ten lines, and how many more there are where.

    Args:
        lines: all of them.
        rest: where the others are, e.g. a path.
    """
    more = len(lines) - _SHOWN_ITEMS
    return [*lines[:_SHOWN_ITEMS], *([f"and {more} more: {rest}"] if more > 0 else [])]


def local_time(seconds: float) -> str:
    """Return e.g. ``2026-11-23 18:05`` in the local time zone; ``?`` for what is no date."""
    try:
        moment = datetime.fromtimestamp(seconds, tz=UTC).astimezone()
    except (ValueError, OverflowError, OSError):  # no date of ours
        return "?"
    return f"{moment:%Y-%m-%d %H:%M}"


def shorten(value: Any) -> str:
    """Return a value as one line of at most 200 characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    line = " ".join(text.split())
    return line if len(line) <= _WIDE else f"{line[: _WIDE - 3]}..."


def reader_has_gone() -> bool:
    """Tell whether a write found that nobody reads stdout any more."""
    return sys.stdout in _unread


def _write(text: str, *, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed before we began: `kino ls >&-`
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        # A reader that has had enough (`kino ls | head -1`) is no failure: what is left goes
        # nowhere, the verb does its work (a run goes on) and ends with that work's exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        _unread.append(stream)
