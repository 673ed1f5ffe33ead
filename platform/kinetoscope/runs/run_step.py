"""What every pipeline component calls: one step of a run."""

from __future__ import annotations

from kinetoscope.core.errors import ExitCode, KinetoscopeError, PreemptedError
from kinetoscope.core.full_disk import disk_full_error
from kinetoscope.runs.checks import check_plans
from kinetoscope.runs.find import open_run
from kinetoscope.runs.jobs.launchers import choose_launcher
from kinetoscope.runs.pins import pinned_spec
from kinetoscope.runs.record_types import Failure
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.steps import planned_step
from kinetoscope.steps.execute import execute
from kinetoscope.telemetry.logging_setup import setup_logging


def run_step(run_uri: str, name: str, inputs: dict[str, str]) -> str:
    """Run one step of a run, or find it done, and return the step's URI.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step, e.g. ``train_vae_2``.
        inputs: URIs of the upstream steps, by input name.

    Raises:
        KinetoscopeError: of the kind that the step's exit code tells.
    """
    setup_logging()
    run = open_run(run_uri)
    start = run.own_start()
    try:
        config = run.config
        run.check_latest(start)
        if start.stop_requested():
            raise PreemptedError(f"run {run.run_id} was stopped before step {name}")
        spec = pinned_spec(run, config, name, inputs)
        result = execute(spec, choose_launcher(config, planned_step(config, name)))
        if not inputs:
            check_plans(config, result)
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
    return spec.uri


def _note(start: RunStart, failure: Failure) -> None:
    if failure.code == ExitCode.DISK_FULL:
        start.release()
    start.note_failure(failure)
