"""``kino show``: what a run made, and what has happened to one of its steps."""

from __future__ import annotations

from typing import Annotated

import typer

from kinetoscope.cli.verbs.options import Json, On, Place, ProfileName, RunName, go_to

EXAMPLE = "Example: kino show last --json, or kino show last --step train_dit_1 --history"

Step = Annotated[str | None, typer.Option(help="Show the state of this step alone.")]
History = Annotated[
    bool, typer.Option("--history", help="Tell what has happened to the step, entry by entry.")
]


def show(
    run: RunName = "last",
    step: Step = None,
    history: History = False,
    on: On = Place.laptop,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Show a run's steps, scores, model version, sample and report; or one step of it."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.overview import history_lines, overview, step_lines
    from kinetoscope.core.errors import UserError
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.summary import run_summary
    from kinetoscope.runs.view import checked_step, step_history, step_row

    if history and step is None:
        raise UserError(
            "--history tells of one step: which?", hint="kino show RUN --step STEP --history"
        )
    go_to(on, profile)
    found = find_run(workspace().store_uri, run)
    if step is None:
        told = run_summary(found)
        lines = [] if as_json else overview(told)
    else:
        told = step_row(found, checked_step(found, step))
        if history:
            told["history"] = step_history(found, step)
        lines = [] if as_json else [*step_lines(told), *history_lines(told.get("history", []))]
    if as_json:
        emit_json(told)
    else:
        say(*lines)
