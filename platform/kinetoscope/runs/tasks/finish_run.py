"""The exit handler: however the pipeline ended, the run's records say so."""

from __future__ import annotations

import logging

from kinetoscope.core.errors import ExitCode, SupersededError
from kinetoscope.core.settings import run_start
from kinetoscope.runs.jobs.launchers import suspend_left_jobs, was_terminated
from kinetoscope.runs.mirror.following import mirror_end
from kinetoscope.runs.record_types import BEGIN, FINISH, Failure
from kinetoscope.runs.records import Run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.starts.words import keeping_words
from kinetoscope.runs.tasks.of_job import check_is_of_job, run_of_job
from kinetoscope.telemetry.logging_setup import setup_logging

REFUSED = "refused"

_log = logging.getLogger(__name__)


def finish_run(job_id: str, resume_of: str) -> str:
    """Note how the start of a run that a job carried has ended, and write its report.

    Args:
        job_id: the backend's own id of the job.
        resume_of: id of the run that it went on with; empty for a new one.

    Returns:
        The run's state; ``refused`` where it never began.
    """
    setup_logging()
    run = run_of_job(job_id, resume_of)
    if not run.exists():
        if not resume_of:
            run.refuse(_untold())
        _log.error("run %s never began", run.run_id)
        return REFUSED
    if run_start() is not None:
        return finish_start(run, run.own_start())
    start = run.latest_start()
    try:
        check_is_of_job(start, job_id)
    except SupersededError as error:
        _log.warning("%s; how it fares is for the later one to tell", error)
        return run.state()
    with keeping_words(start, FINISH):
        return _finish(run, start)


def _finish(run: Run, start: RunStart) -> str:
    """End a start and what is left of it, and tell MLflow of it."""
    if was_terminated():  # it was stopped, whatever the steps could tell yet
        start.request_stop()
    suspend_left_jobs(start)
    state = finish_start(run, start)
    mirror_end(run, start)
    return state


def _untold() -> Failure:
    return Failure(
        step=BEGIN,
        code=ExitCode.FAILED,
        reason="the task that begins the run ended without a word",
        hint="the log of its pod in Kubeflow may say why",
    )
