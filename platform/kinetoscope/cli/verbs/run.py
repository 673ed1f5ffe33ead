"""``kino run``: start a run, here or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import (
    Json,
    On,
    Overrides,
    Place,
    ProfileName,
    Recipe,
    Videos,
    Wait,
    go_to,
)

if TYPE_CHECKING:
    from kinetoscope.config.load import LoadedConfig
    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.pipelines.cluster.backend import Backend

EXAMPLE = (
    "Example: kino run --recipe tiny --videos videos --set seed=7, "
    "or: kino run --on cluster --recipe tiny --videos s3://bucket/clips --wait"
)

Every = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="CRON",
        help="On a cluster: start a run by the clock, e.g. '0 0 3 * * *'.",
    ),
]


def run(
    videos: Videos,
    recipe: Recipe = "tiny",
    overrides: Overrides = None,
    on: On = Place.laptop,
    profile: ProfileName = None,
    wait: Wait = False,
    every: Every = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline: raw videos in, a registered model out.

    Steps that an earlier run has done already, on the same data with the same config and code, are
    skipped. Ctrl-C saves and stops; kino resume continues.

    Here, videos are read where they lie. What a run began on, it goes on with: a video that changed
    or went away since is refused by its name. On a cluster a folder is uploaded first, what is
    there already aside; the run then goes on without this command.
    """
    from kinetoscope.config.load import load_config
    from kinetoscope.core.errors import UserError

    backend = go_to(on, profile)
    loaded = load_config(recipe, overrides or ())
    _check_conditions(loaded.config.prepare_data)
    if backend is not None:
        _submit(backend, loaded, videos, wait=wait, every=every, as_json=as_json)
        return
    if wait or every:
        raise UserError("--wait and --every are for runs on a cluster", hint="add --on cluster")
    from functools import partial

    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.following import follow
    from kinetoscope.cli.output import say
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import create_run

    with Counter("files looked at") as progress:
        created = create_run(loaded, videos, workspace(), progress, partial(say, err=True))
    follow(created, as_json=as_json)


def _check_conditions(config: PrepareDataConfig) -> None:
    """Refuse conditions for clips that can't be asked, where what asks them is installed."""
    from importlib.util import find_spec

    if config.filters.where and find_spec("polars") is not None:
        from kinetoscope.data.prepare.filters import check_filters

        check_filters(config)


def _submit(
    backend: Backend,
    loaded: LoadedConfig,
    videos: str,
    *,
    wait: bool,
    every: str | None,
    as_json: bool,
) -> None:
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.submitting import place_of_videos, tell_submitted
    from kinetoscope.pipelines.cluster.submit import submit, submit_recurring

    parameters = {"videos": place_of_videos(videos)}
    if every:
        found = submit_recurring(backend, loaded.config, parameters, every)
        told = f"recurring run {found} starts runs of {loaded.config.name} at {every}"
        if as_json:
            emit_json({"recurring_run": found, "cron": every})
        else:
            say(told)
        return
    job_id, run_id = submit(backend, loaded.config, parameters)
    tell_submitted(backend, run_id, job_id, wait=wait, as_json=as_json)
