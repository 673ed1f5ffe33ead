"""What verbs write to stdout: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

_WIDE = 200


def emit_json(value: Any) -> None:
    """Write one indented JSON document."""
    typer.echo(json.dumps(value, indent=1, default=str))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return left-aligned columns two spaces apart."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def local_time(seconds: float) -> str:
    """Return e.g. ``2026-11-23 18:05`` in the local time zone."""
    moment = datetime.fromtimestamp(seconds, tz=UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"


def shorten(value: Any) -> str:
    """Return a value as one line of at most 200 characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    line = " ".join(text.split())
    return line if len(line) <= _WIDE else f"{line[: _WIDE - 3]}..."
