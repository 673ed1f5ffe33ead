"""``kino ls``: the runs of the workspace."""

from __future__ import annotations

import typer

from kinetoscope.cli.verbs.options import Json

EXAMPLE = "Example: kino ls --json"


def ls(as_json: Json = False) -> None:
    """List the runs, the newest first."""
    from kinetoscope.cli.output import emit_json, local_time, table
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.records import list_runs
    from kinetoscope.runs.view import run_row

    rows = [run_row(run) for run in list_runs(workspace().store_uri)]
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
