"""``kino resume``: continue a run that was stopped, interrupted or has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import Json, On, Place, ProfileName, RunName, Wait, go_to

if TYPE_CHECKING:
    from kinetoscope.pipelines.cluster.backend import Backend
    from kinetoscope.runs.records import Run

EXAMPLE = "Example: kino resume last --fresh train_dit_1"

Fresh = Annotated[
    list[str] | None,
    typer.Option("--fresh", metavar="STEP", help="Make this step anew; may be repeated."),
]


MovedTo = Annotated[
    str | None,
    typer.Option("--videos", metavar="PLACE", help="Where the run's videos lie now."),
]


def resume(
    run: RunName = "last",
    fresh: Fresh = None,
    videos: MovedTo = None,
    on: On = Place.laptop,
    profile: ProfileName = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Continue a run: finished steps stay, the open one continues at its last checkpoint.

    A run goes on with the steps that it has, whatever code has changed since. --fresh makes one
    anew, and after it what its new result changes; the old one is kept as long as the run is.
    A run that has finished, of which nothing is missing, is only shown.
    Videos that were moved are found by --videos; they must be the same.
    """
    from kinetoscope.cli.following import follow
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.finished import is_finished

    backend = go_to(on, profile)
    found = find_run(workspace().store_uri, run)
    after = _ended_start(found, backend)
    if not fresh and is_finished(found):
        _show(found, as_json=as_json)
        return
    if backend is not None:
        _submit(backend, found, fresh or [], videos, wait=wait, as_json=as_json)
        return
    _prepare(found, fresh or [], videos)
    follow(found, as_json=as_json, after=after)


def _submit(
    backend: Backend,
    run: Run,
    fresh: list[str],
    videos: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a pipeline that goes on with the run, in the images that the release has now."""
    from kinetoscope.cli.submitting import place_of_videos, tell_submitted
    from kinetoscope.pipelines.cluster.submit import submit

    run.check_steps(fresh)
    parameters = {"resume_of": run.run_id, "fresh": ",".join(fresh)}
    parameters["videos"] = place_of_videos(videos) if videos is not None else ""
    job_id, run_id = submit(backend, run.config, parameters)
    tell_submitted(backend, run_id, job_id, wait=wait, as_json=as_json)


def _ended_start(run: Run, backend: Backend | None) -> int:
    """Return the number of the latest start; raise ``UserError`` unless that has ended."""
    from functools import partial

    from kinetoscope.cli.output import say
    from kinetoscope.runs.starts.signs_of_life import find_running, still_running

    latest = run.latest_start()
    if backend is not None and latest.record is not None and latest.record.job_id:
        if not backend.is_over(latest):
            raise still_running(latest)
        return latest.number
    running = find_running([latest], partial(say, err=True))
    if running is not None:
        raise still_running(running)
    return latest.number


def _show(run: Run, *, as_json: bool) -> None:
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.overview import overview
    from kinetoscope.runs.summary import run_summary

    summary = run_summary(run)
    if as_json:
        emit_json(summary)
    else:
        say(f"run {run.run_id} has finished: nothing is left to do", "", *overview(summary))


def _prepare(run: Run, fresh: list[str], videos: str | None) -> None:
    """Look at the disk, and note what is to be other than before."""
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import check_disk
    from kinetoscope.runs.videos import move_videos

    check_disk(workspace())
    if videos is not None:
        move_videos(run, videos, workspace())
    _ask_fresh(run, fresh)


def _ask_fresh(run: Run, names: list[str]) -> None:
    """Note which steps are to be made anew, once all of them can be."""
    run.config  # noqa: B018 - what can't be read is told before anything is noted
    run.check_steps(names)
    for name in names:
        run.request_fresh(name)
