"""What every task of the pipeline that is a step calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kinetoscope.core.errors import (
    DivergedError,
    ExitCode,
    KinetoscopeError,
    PreemptedError,
    UserError,
)
from kinetoscope.core.full_disk import disk_full_error
from kinetoscope.core.settings import run_start
from kinetoscope.runs.checks import check_plans
from kinetoscope.runs.find import open_run
from kinetoscope.runs.jobs.launchers import choose_launcher
from kinetoscope.runs.mirror.following import mirroring
from kinetoscope.runs.pins import pinned_spec
from kinetoscope.runs.record_types import Failure
from kinetoscope.runs.records import Run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.starts.words import keeping_words
from kinetoscope.runs.steps import RunStep, planned_step
from kinetoscope.runs.tasks.beating import beating
from kinetoscope.runs.tasks.of_job import is_reopened, run_of_job, start_of_job
from kinetoscope.runs.view import step_results
from kinetoscope.steps.execute import execute
from kinetoscope.telemetry.logging_setup import setup_logging

# No retry helps; of the others, a backend's automatic one may.
_FINAL: dict[int, type[KinetoscopeError]] = {
    ExitCode.USER_ERROR: UserError,
    ExitCode.DIVERGED: DivergedError,
}


def run_task(name: str, job_id: str, resume_of: str) -> str:
    """Run one step of the run that a job carries, after the steps before it, as `run_step` does.

    Args:
        name: the step, e.g. ``train_vae_2``.
        job_id: the backend's own id of the job.
        resume_of: id of the run, where it goes on; empty for a new one.
    """
    return run_step(run_of_job(job_id, resume_of).uri, name, None, job_id)


def run_step(run_uri: str, name: str, inputs: dict[str, str] | None, job_id: str = "") -> str:
    """Run one step of a run, or find it done, and return the step's URI.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step, e.g. ``train_vae_2``.
        inputs: URIs of the upstream steps, by input name; None: those of the run.
        job_id: the backend's own id of the job that carries the run.

    Raises:
        KinetoscopeError: of the kind that the step's exit code tells.
    """
    setup_logging()
    run = open_run(run_uri)
    start = start_of_job(run, job_id)
    with (
        keeping_words(start, name),
        at_work(run, start),
        _ending(run, start),
        _noting(start, name),
    ):
        return _run(run, start, name, inputs)


def _run(run: Run, start: RunStart, name: str, inputs: dict[str, str] | None) -> str:
    config = run.config
    run.check_latest(start)
    if start.stop_requested():
        raise PreemptedError(f"run {run.run_id} was stopped before step {name}")
    _check_may_help(start, name)
    step = planned_step(config, name)
    inputs = _upstream(run, step) if inputs is None else inputs
    spec = pinned_spec(run, start, config, name, inputs)
    result = execute(spec, choose_launcher(config, step))
    if not inputs:
        run.note_buckets(check_plans(config, result))
    return spec.uri


def _upstream(run: Run, step: RunStep) -> dict[str, str]:
    """Return the URIs of the steps that a step goes on from, by input name: all are done."""
    found = {}
    for key, upstream in step.inputs.items():
        record = run.step(upstream)
        if record is None:
            raise KinetoscopeError(f"step {upstream} comes before {step.name}, and was not begun")
        found[key] = run.step_uri(record)
    return found


def _check_may_help(start: RunStart, name: str) -> None:
    """Raise at once what ended the step before in this start, where to try again can't help."""
    earlier = start.failure(name)
    if earlier is not None and earlier.code in _FINAL:
        raise _FINAL[earlier.code](earlier.reason, hint=earlier.hint or None)


@contextmanager
def at_work(run: Run, start: RunStart) -> Iterator[None]:
    """Give signs of life meanwhile, and keep MLflow's copy current, where no host does."""
    if run_start() is not None:
        yield
        return
    alive = beating(run, start)
    try:
        with mirroring(run, start):
            yield
    finally:
        alive.stop()


@contextmanager
def _ending(run: Run, start: RunStart) -> Iterator[None]:
    """End the start with its last step, or with one that fails, where no exit handler will."""
    try:
        yield
    except KinetoscopeError:
        if is_reopened(run, start):
            finish_start(run, start)
        raise
    if is_reopened(run, start) and len(step_results(run)) == len(run.record.steps):
        finish_start(run, start)


@contextmanager
def _noting(start: RunStart, name: str) -> Iterator[None]:
    """Note why the step failed, or that it did not."""
    try:
        yield
    except KinetoscopeError as error:
        _note(start, Failure.of(name, error))
        raise
    except Exception as error:  # the boundary of the component: the run must know why it ended
        full = disk_full_error(error) if isinstance(error, OSError) else None
        told = full or KinetoscopeError(
            f"{type(error).__name__}: {error}", hint="see the run's log"
        )
        _note(start, Failure.of(name, told))
        raise told from error
    start.forget_failure(name)


def _note(start: RunStart, failure: Failure) -> None:
    if failure.code == ExitCode.DISK_FULL:
        start.release()
    start.note_failure(failure)
