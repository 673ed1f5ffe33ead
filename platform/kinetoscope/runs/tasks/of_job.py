"""Which run, and which start of it, a task of the pipeline works for."""

from __future__ import annotations

import time
from contextlib import suppress

from kinetoscope.core.errors import SupersededError, UserError
from kinetoscope.core.ids import run_id_of
from kinetoscope.core.settings import run_start, workspace
from kinetoscope.runs.record_types import Start
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.steps.process_identity import ProcessIdentity


def run_of_job(job_id: str, resume_of: str) -> Run:
    """Return the run that a job carries: a new one of its own, or one that goes on."""
    return Run(workspace().store_uri, resume_of or run_id_of(job_id))


def start_of_job(run: Run, job_id: str) -> RunStart:
    """Return the start that a job of the pipeline's backend works for.

    That is the latest one. Where it has ended, the backend has been told to try the job again after
    all (the button Retry of Kubeflow): a new start of the same job begins, which supersedes the
    stop and the end of the one before. On a laptop the environment says which start it is.

    Args:
        run: that the job carries.
        job_id: the backend's own id of the job.

    Raises:
        SupersededError: another job goes on with the run.
    """
    if run_start() is not None:
        return run.own_start()
    while True:
        latest = run.latest_start()
        check_is_of_job(latest, job_id)
        if not latest.has_ended():
            return latest
        with suppress(UserError):  # another task of the job was first: its start is ours
            return run.begin(new_start(job_id), after=latest.number)


def is_reopened(run: Run, start: RunStart) -> bool:
    """Tell whether a start began since the backend tried a job again that had ended.

    Its exit handler has run then, and does not run again: who works for the start ends it.
    """
    if start.record is None or not start.record.job_id or start.number == 1:
        return False
    before = run.start(start.number - 1).record
    return before is not None and before.job_id == start.record.job_id


def begin_for_job(run: Run, job_id: str) -> RunStart:
    """Begin a start of a run for a job, or return the one that the job began before.

    Raises:
        UserError: another job began one at this moment.
    """
    while True:
        latest = run.latest_start()
        record = latest.record
        is_own = record is not None and record.job_id == job_id
        if is_own and not latest.has_ended():
            return latest
        try:
            return run.begin(new_start(job_id), after=latest.number)
        except UserError:
            newer = run.latest_start().record
            if newer is None or newer.job_id != job_id:
                raise


def new_start(job_id: str) -> Start:
    """Return the record of a start that this process begins."""
    return Start(process=ProcessIdentity.of(), started_at=time.time(), job_id=job_id)


def check_is_of_job(latest: RunStart, job_id: str) -> None:
    """Raise ``SupersededError`` unless the latest start of a run is of a job."""
    record = latest.record
    if record is None or record.job_id != job_id:
        began = "was never begun" if record is None else f"goes on by {_name(record)}"
        raise SupersededError(f"run {latest.run_id} {began}, not by job {job_id}")


def _name(start: Start) -> str:
    return f"job {start.job_id}" if start.job_id else f"a process on {start.process.host}"
