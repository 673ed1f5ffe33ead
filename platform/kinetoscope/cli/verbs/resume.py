"""``kino resume``: continue a run that was stopped, interrupted or has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import Json, RunName

if TYPE_CHECKING:
    from kinetoscope.runs.records import Run

EXAMPLE = "Example: kino resume last --fresh train_dit_1"

Fresh = Annotated[
    list[str] | None,
    typer.Option("--fresh", metavar="STEP", help="Make this step anew; may be repeated."),
]


def resume(run: RunName = "last", fresh: Fresh = None, as_json: Json = False) -> None:
    """Continue a run: finished steps stay, the open one continues at its last checkpoint.

    A run goes on with the steps that it has, whatever code has changed since. --fresh makes one
    anew, and after it what its new result changes; the old one is kept as long as the run is.
    """
    from kinetoscope.cli.following import follow
    from kinetoscope.core.errors import UserError
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import check_disk
    from kinetoscope.runs.find import find_run

    found = find_run(workspace().store_uri, run)
    if found.is_running():
        raise UserError(
            f"run {found.run_id} is still running",
            hint=f"kino status {found.run_id} shows it, kino stop stops it",
        )
    check_disk(workspace())
    _ask_fresh(found, fresh or [])
    follow(found, as_json=as_json)


def _ask_fresh(run: Run, names: list[str]) -> None:
    """Note which steps are to be made anew, once all of them can be."""
    from kinetoscope.core.errors import NotFoundError

    run.config  # noqa: B018 - what can't be read is told before anything is noted
    steps = run.record.steps
    for name in names:
        if name not in steps:
            hint = f"its steps are {', '.join(steps)}"
            raise NotFoundError(f"run {run.run_id} has no step {name!r}", hint=hint)
    for name in names:
        run.request_fresh(name)
