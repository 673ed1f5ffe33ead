"""``kino show``: what a run made."""

from __future__ import annotations

from kinetoscope.cli.verbs.options import Json, RunName

EXAMPLE = "Example: kino show last --json"


def show(run: RunName = "last", as_json: Json = False) -> None:
    """Show a run's steps, scores, model version, sample and report."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.overview import overview
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.summary import run_summary

    summary = run_summary(find_run(workspace().store_uri, run))
    if as_json:
        emit_json(summary)
    else:
        say(*overview(summary))
