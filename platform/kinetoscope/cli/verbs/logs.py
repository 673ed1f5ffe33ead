"""``kino logs``: what a run's processes wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import On, Place, ProfileName, RunName, go_to

if TYPE_CHECKING:
    from kinetoscope.runs.records import Run

EXAMPLE = "Example: kino logs last train_dit_1 --follow"
_POLL_SECONDS = 1.0

StepName = Annotated[
    str | None,
    typer.Argument(
        metavar="STEP",
        help="Name of a step, or begin_run or finish_run; without it, the whole run.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")]


def logs(
    run: RunName = "last",
    step: StepName = None,
    follow: Follow = False,
    on: On = Place.laptop,
    profile: ProfileName = None,
) -> None:
    """Write the logs of a run or of one of its steps, all attempts and ranks, oldest first."""
    import time

    from kinetoscope.cli.output import reader_has_gone, say
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.summary import uri_to_path
    from kinetoscope.runs.view import log_objects

    go_to(on, profile)
    found = find_run(workspace().store_uri, run)
    offsets: dict[str, int] = {}
    while True:
        # The state first: what was written before the end is not missed.
        running = found.state() == "running"
        _write_host_log(found, step, offsets)
        for log in log_objects(found, step):
            # A log in a bucket is fetched as a whole: only once it has grown.
            if log.size_bytes > offsets.get(log.uri, 0):
                _write_new(uri_to_path(log.uri), log.store.get_bytes(log.key), log.uri, offsets)
        if not (follow and running) or reader_has_gone():
            break
        time.sleep(_POLL_SECONDS)
    if not offsets:
        say("nothing was logged yet", err=True)


def _write_host_log(run: Run, step: str | None, offsets: dict[str, int]) -> None:
    from kinetoscope.core.settings import workspace

    host = workspace().root / "logs" / f"{run.run_id}.log"
    if step is None and host.exists():
        _write_new(str(host), host.read_bytes(), host.as_uri(), offsets)


def _write_new(shown: str, data: bytes, uri: str, offsets: dict[str, int]) -> None:
    from kinetoscope.cli.output import say, say_log

    new = data[offsets.get(uri, 0) :]
    if new:
        if uri not in offsets:
            say(f"==> {shown}")
        say_log(new.decode(errors="backslashreplace"))
    offsets[uri] = max(len(data), offsets.get(uri, 0))
