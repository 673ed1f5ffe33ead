"""``kino rm``: delete a run."""

from __future__ import annotations

from typing import Annotated

import typer

from kinetoscope.cli.verbs.options import RunName

EXAMPLE = "Example: kino rm r7k2m9xq --yes"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def rm(run: RunName, yes: Yes = False) -> None:
    """Delete a run, its log, and what only its steps made.

    What other runs use stays, and so do registered models and the run's copy in MLflow.
    """
    from kinetoscope.core.settings import workspace
    from kinetoscope.core.units import format_bytes
    from kinetoscope.runs.records import find_run
    from kinetoscope.runs.removal import remove_run

    found = find_run(workspace().store_uri, run)
    run_id = found.run_id
    if not yes:
        typer.confirm(f"delete run {run_id}?", abort=True, err=True)
    freed = remove_run(found, workspace())
    typer.echo(f"run {run_id} deleted, {format_bytes(freed)} freed")
