"""``kino logs``: what a run's processes wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import RunName

if TYPE_CHECKING:
    from kinetoscope.steps.records import Run

EXAMPLE = "Example: kino logs last train_dit_1 --follow"
_POLL_SECONDS = 1.0

StepName = Annotated[
    str | None, typer.Argument(metavar="STEP", help="Name of a step; without it, the whole run.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")]


def logs(run: RunName = "last", step: StepName = None, follow: Follow = False) -> None:
    """Write the logs of a run or of one of its steps, all attempts and ranks, oldest first."""
    import time

    from kinetoscope.core.settings import workspace
    from kinetoscope.steps.records import find_run

    found = find_run(workspace().store_uri, run)
    offsets: dict[Path, int] = {}
    while True:
        # The state first: what was written before the end is not missed.
        running = found.state() == "running"
        for path in _paths(found, step):
            _write_new(path, offsets)
        if not (follow and running):
            break
        time.sleep(_POLL_SECONDS)
    if not offsets:
        typer.echo("nothing was logged yet", err=True)


def _paths(run: Run, step: str | None) -> list[Path]:
    from kinetoscope.core.settings import workspace
    from kinetoscope.steps.view import log_files

    host = workspace().root / "logs" / f"{run.record.run_id}.log"
    return [*([host] if step is None and host.exists() else []), *log_files(run, step)]


def _write_new(path: Path, offsets: dict[Path, int]) -> None:
    first = path not in offsets
    with path.open("rb") as file:
        file.seek(offsets.get(path, 0))
        data = file.read()
    if data:
        if first:
            typer.echo(f"==> {path}")
        typer.echo(data.decode(errors="replace"), nl=False)
    offsets[path] = offsets.get(path, 0) + len(data)
