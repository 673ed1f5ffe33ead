"""The host of a run on this machine: ``python -m kinetoscope.pipelines.local_host RUN_URI``.

It runs the pipeline in kfp's local runner and mirrors its metrics to MLflow. Its steps stop when it
dies; it stops its steps when whoever started it dies.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.core.settings import workspace
from kinetoscope.pipelines.build import build_pipeline
from kinetoscope.pipelines.local_command import take_over_commands
from kinetoscope.runs.find import open_run
from kinetoscope.runs.mirror.following import RUN_END_SECONDS, mirroring
from kinetoscope.runs.records import Run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.tasks.beating import beating
from kinetoscope.steps.repeating import Repeating
from kinetoscope.steps.scratch import scratch_folder
from kinetoscope.telemetry.logging_setup import setup_logging

_LOOK_SECONDS = 1.0
_START_SECONDS = 60.0

_log = logging.getLogger(__name__)


def host(run_uri: str) -> int:
    """Run the pipeline of a run to its end; return 0 when it succeeded."""
    setup_logging()
    run = open_run(run_uri)
    config = run.config
    # Told, since it may be gone before we came to ask who it is.
    parent = int(os.environ.get("KINO_STARTER_PID") or os.getppid())
    os.environ["KINO_HOST_PID"] = str(os.getpid())
    start = _await_start(run, parent)
    _stop_when_orphaned(start, parent)
    start.reserve()
    alive = beating(run, start)
    try:
        with mirroring(run, start, end_seconds=RUN_END_SECONDS):
            _run_to_its_end(run, start, config)
    except OSError as error:
        full = disk_full_or_raise(error)
        _log.error("%s", full.message)
        return full.exit_code  # all that can be said where not even the end can be written
    finally:
        alive.stop()
    end = start.end()
    return 0 if end is not None and end.state == "succeeded" else 1


def _await_start(run: Run, parent: int) -> RunStart:
    """Wait until our start is on record: before, nothing of the run may be touched."""
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at and os.getppid() == parent:
        start = run.own_start()
        if start.record is not None:
            process = start.record.process
            if process.is_here() and process.pid == os.getpid():
                return start
            break  # another command was first
        time.sleep(_LOOK_SECONDS / 20)
    raise KinetoscopeError(f"nobody noted the start of run {run.run_id}", hint="start it again")


def _run_to_its_end(run: Run, start: RunStart, config: RunConfig) -> None:
    try:
        _run_pipeline(run.run_id, config)
    except Exception:  # kfp raises RuntimeError for a failed task; the run's records say why
        _log.exception("the pipeline did not run to its end")
    if not start.has_ended():  # the exit handler itself could not run
        finish_start(run, start)


def _run_pipeline(run_id: str, config: RunConfig) -> None:
    from kfp import local

    with scratch_folder(workspace().scratch_path, "kfp") as root:
        take_over_commands(root)
        # No virtual environment per task, no kfp cache: the steps run in this environment, and what
        # is done already is the step contract's to know.
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            workspace_root=str(root / "workspace"),  # else one in the system's folder, for ever
            raise_on_error=True,
            enable_caching=False,
        )
        build_pipeline(config)(resume_of=run_id)


def _stop_when_orphaned(start: RunStart, parent: int) -> None:
    def look() -> None:
        if os.getppid() != parent and not start.stop_requested():
            _log.warning("the process that started this run is gone: stopping")
            start.request_stop()

    Repeating("looking for whoever started this run", look, _LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(host(sys.argv[1]))
