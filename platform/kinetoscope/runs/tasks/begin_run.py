"""The pipeline's first task: whoever started it, the run is on record afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kinetoscope.config.load import read_resolved
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, KinetoscopeError, NotFoundError
from kinetoscope.core.settings import run_start, workspace
from kinetoscope.runs.create import write_run
from kinetoscope.runs.record_types import BEGIN, Failure
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.words import keeping_words
from kinetoscope.runs.tasks.graph import check_graph
from kinetoscope.runs.tasks.of_job import begin_for_job, run_of_job
from kinetoscope.runs.videos import move_videos
from kinetoscope.storage.open import open_store
from kinetoscope.telemetry.logging_setup import setup_logging

_log = logging.getLogger(__name__)


def begin_run(job_id: str, config: str, videos: str, resume_of: str, fresh: str, graph: str) -> str:
    """Make the records of the run that a job of the backend carries, and begin a start of it.

    It may be tried again at any moment: the same job always has the same run, and one start of it
    at a time. On a laptop the records are there, and the start has begun.

    Args:
        job_id: the backend's own id of the job.
        config: the resolved config as JSON, or a URI of it; not asked for where a run goes on.
        videos: URI of the videos; where a run goes on, where they lie now, if they were moved.
        resume_of: id of a run that goes on; empty for a new one.
        fresh: names of steps to make anew, by commas.
        graph: of the pipeline, from `runs.tasks.graph.graph_of`.

    Returns:
        URI of the run's records.

    Raises:
        KinetoscopeError: the run is refused; `Run.refusal`, or the start's failure, says why.
    """
    setup_logging()
    run = run_of_job(job_id, resume_of)
    if run_start() is not None:
        return run.uri
    with keeping_words(run.start(0), BEGIN):
        if resume_of:
            _go_on(run, job_id, videos, fresh, graph)
        else:
            with _refusing(run):
                _create(run, config, videos, graph)
            begin_for_job(run, job_id)
        _log.info("run %s", run.run_id)
    return run.uri


def _create(run: Run, config: str, videos: str, graph: str) -> None:
    if run.exists():  # this task was tried before
        return
    resolved = _read(config)
    check_graph(resolved, graph)
    if not videos:
        raise ConfigError("no videos are given", hint="videos: s3://BUCKET/FOLDER")
    write_run(run, resolved, videos, workspace())


def _go_on(run: Run, job_id: str, videos: str, fresh: str, graph: str) -> None:
    if not run.exists():
        raise NotFoundError(
            f"there is no run {run.run_id!r} in {run.root_uri}", hint="kino ls lists them"
        )
    start = begin_for_job(run, job_id)
    try:
        check_graph(run.config, graph)
        if videos:
            move_videos(run, videos, workspace())
        names = [name.strip() for name in fresh.split(",") if name.strip()]
        run.check_steps(names)
        for name in names:
            run.request_fresh(name)
    except KinetoscopeError as error:
        start.note_failure(Failure.of(BEGIN, error))
        raise


def _read(config: str) -> RunConfig:
    """Return the config that is given as JSON, or by a URI."""
    if config.lstrip().startswith("{"):
        return _resolved(config.encode(), "the pipeline's parameter config")
    folder, _, name = config.rpartition("/")
    if not folder or not name:
        raise ConfigError(
            f"config is {config!r}: it must be a resolved config as JSON, or a URI of one",
            hint="left out, it is the config that the pipeline was compiled from",
        )
    try:
        data = open_store(folder).get_bytes(name)
    except NotFoundError:
        raise ConfigError(f"there is no config at {config}") from None
    return _resolved(data, config)


def _resolved(data: bytes, source: str) -> RunConfig:
    try:
        return read_resolved(data, source)
    except ValueError as error:
        raise ConfigError(f"{source} is no JSON: {error}") from None


@contextmanager
def _refusing(run: Run) -> Iterator[None]:
    """Note why a new run can't begin: it has no other record that could tell."""
    try:
        yield
    except KinetoscopeError as error:
        run.refuse(Failure.of(BEGIN, error))
        raise
