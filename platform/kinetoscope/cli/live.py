"""How a run looks while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from kinetoscope.cli.output import say
from kinetoscope.core.text import printable
from kinetoscope.core.units import format_seconds
from kinetoscope.runs.records import Run
from kinetoscope.runs.view import run_status, step_row

_LINE_SECONDS = 30.0
_PERCENT = 100
_STOPPING = "stopping: the open step saves; another Ctrl-C kills it"
_STYLES = {"done": "green", "failed": "red", "running": "cyan", "interrupted": "red"}


class Display(Protocol):
    """Shows a run; everything goes to stderr, stdout is for results."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...

    def update(self) -> None:
        """Look at the run's records and show what is new."""


def display(run: Run) -> Display:
    """Return the display that suits stderr."""
    return LiveDisplay(run) if sys.stderr.isatty() else LineDisplay(run)


class LineDisplay:
    """A line whenever a step changes its state, and now and then while it runs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._states: dict[str, str] = {}
        self._told_at = time.monotonic()
        self._told_of_stop = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self) -> None:
        """Write the lines that are due."""
        if not self._told_of_stop and self._run.latest_start().stop_requested():
            self._told_of_stop = True
            say(_STOPPING, err=True)
        due = time.monotonic() - self._told_at >= _LINE_SECONDS
        for name in self._run.record.steps:
            # A done step changes no more, and reading it again and again would be for nothing.
            if self._states.get(name) == "done":
                continue
            row = step_row(self._run, name)
            changed = row["state"] not in (self._states.get(name, "pending"), "pending")
            self._states[name] = row["state"]
            if changed or (due and row["state"] == "running"):
                say(describe(row), err=True)
                self._told_at = time.monotonic()


class LiveDisplay:
    """A table of all steps, drawn anew in place."""

    def __init__(self, run: Run) -> None:
        from rich.console import Console
        from rich.live import Live

        self._run = run
        self._live = Live(console=Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Draw the table anew."""
        from rich.console import Group

        note = [_STOPPING] if self._run.latest_start().stop_requested() else []
        self._live.update(Group(status_table(run_status(self._run)), *note), refresh=True)


def status_table(status: dict[str, Any]) -> Any:
    """Return a rich table of what ``run_status`` told."""
    from rich.table import Table
    from rich.text import Text

    table = Table("step", "state", "time", "progress", box=None, title=None, padding=(0, 2, 0, 0))
    for row in status["steps"]:
        style = _STYLES.get(row["state"], "dim")
        spent = format_seconds(row["seconds"]) if row["seconds"] else ""
        # Texts, not strings: rich would take [red] or :boom: in a name for its own markup.
        state, told = Text(_state(row), style), Text(printable(progress_text(row)))
        table.add_row(Text(row["name"]), state, spent, told)
    return table


def describe(row: dict[str, Any]) -> str:
    """Return a step's row as one line."""
    spent = f" ({format_seconds(row['seconds'])})" if row["seconds"] else ""
    told = progress_text(row)
    return f"{row['name']}: {_state(row)}{spent}" + (f" {told}" if told else "")


def progress_text(row: dict[str, Any]) -> str:
    """Return e.g. ``45% 90/200 steps, 1m 10s left, loss 0.021``; the reason where it failed."""
    if row["state"] in ("failed", "stopped"):
        return str(row["reason"])
    progress = row["progress"]
    done, total = progress["done"], progress["total"]
    if row["state"] != "running" or not total:
        return ""
    parts = [f"{_PERCENT * done / total:.0f}% {done:g}/{total:g} {progress['unit']}".rstrip()]
    parts += [f"{key} {_number(value)}" for key, value in progress["info"].items()]
    if "nodes" in row:
        running = sum(node["state"] == "running" for node in row["nodes"])
        parts.append(f"{running} of {row['num_nodes']} nodes at work")
    return ", ".join(parts)


def _state(row: dict[str, Any]) -> str:
    return "done before" if row["cached"] and row["state"] == "done" else str(row["state"])


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
