"""``kino rm``: delete a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import RunName

if TYPE_CHECKING:
    from kinetoscope.runs.records import Run

EXAMPLE = "Example: kino rm r7k2m9xq --yes"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def rm(run: RunName, yes: Yes = False) -> None:
    """Delete a run, its log, and what only its steps made.

    What other runs use stays, and so do registered models and the run's copy in MLflow.
    """
    from functools import partial

    from kinetoscope.cli.output import say
    from kinetoscope.core.settings import workspace
    from kinetoscope.core.units import format_bytes
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.removal import remove_run

    found = find_run(workspace().store_uri, run)
    run_id = found.run_id
    if not yes:
        _ask(found)
    freed = remove_run(found, workspace(), tell=partial(say, err=True))
    say(f"run {run_id} deleted, {format_bytes(freed)} freed")


def _ask(run: Run) -> None:
    """Raise unless the user says yes."""
    import sys

    from kinetoscope.cli.output import confirm
    from kinetoscope.core.errors import UserError

    run_id = run.run_id
    try:
        agreed = confirm(f"delete run {run_id}?")
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise UserError(
            f"nobody answered whether to delete run {run_id}: stdin is no terminal",
            hint=f"kino rm {run_id} --yes deletes it without asking",
        ) from None
    if not agreed:
        raise typer.Abort
