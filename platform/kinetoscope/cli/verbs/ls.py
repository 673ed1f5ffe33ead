"""``kino ls``: the runs of the workspace."""

from __future__ import annotations

from typing import Any

import typer

from kinetoscope.cli.verbs.options import Json

EXAMPLE = "Example: kino ls --json"
_SHOWN_DAMAGE = 10


def ls(as_json: Json = False) -> None:
    """List the runs, the newest first."""
    from kinetoscope.cli.output import emit_json, local_time, table
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.view import run_rows

    rows = run_rows(workspace().store_uri)
    if as_json:
        emit_json(rows)
    elif not rows:
        typer.echo(f"no runs in {workspace().root}")
    else:
        cells = [
            (
                row["run"],
                row["name"],
                row["state"],
                f"{row['steps_done']}/{row['num_steps']}",
                local_time(row["created_at"]),
            )
            for row in rows
        ]
        typer.echo(table(("run", "name", "state", "steps", "created"), cells))
        _tell_damage([row for row in rows if row["state"] == "damaged"])


def _tell_damage(rows: list[dict[str, Any]]) -> None:
    for row in rows[:_SHOWN_DAMAGE]:
        typer.echo(f"{row['run']}: {row['reason']}; {row['hint']}", err=True)
    if len(rows) > _SHOWN_DAMAGE:
        typer.echo(f"and {len(rows) - _SHOWN_DAMAGE} more (--json tells of all)", err=True)
