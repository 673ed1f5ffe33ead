"""Who runs the attempts of a step: this machine, or a training job of a cluster."""

from __future__ import annotations

import logging
from typing import Any

from kinetoscope.config.run import RunConfig, Stage
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.settings import kubeflow_pod, trains_in_jobs
from kinetoscope.runs.records import RUNS
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.steps import RunStep
from kinetoscope.steps.execute import Launcher
from kinetoscope.steps.nodes.local_launcher import LocalLauncher

_log = logging.getLogger(__name__)


def choose_launcher(config: RunConfig, step: RunStep) -> Launcher:
    """Return what runs a step's attempts.

    Raises:
        ConfigError: the cluster's credentials can't be read, or the environment is no valid one.
    """
    stage = _stage_in_a_job(config, step)
    if stage is None:
        return LocalLauncher()
    # The cluster's library takes most of a second to import.
    from kinetoscope.kube.connection import connect
    from kinetoscope.kube.launching.launcher import TrainJobLauncher
    from kinetoscope.kube.profiles import choose_profile

    cluster = connect(choose_profile())
    return TrainJobLauncher(cluster, config.cluster.pod(step.name), stage.loop.engine)


def launcher_fields(config: RunConfig, start: RunStart, step: RunStep) -> dict[str, Any]:
    """Return what a step's spec says of its launcher: nothing where it runs on this machine."""
    if _stage_in_a_job(config, step) is None:
        return {}
    return {
        "launcher_key": f"{RUNS}/{start.run_id}/{start.launcher_key(step.name)}",
        "orphan_minutes": config.cluster.pod(step.name).orphan_minutes,
    }


def _stage_in_a_job(config: RunConfig, step: RunStep) -> Stage | None:
    """Return what a step trains, where that is done in a job."""
    stage = next((stage for stage in config.stages() if stage.step == step.name), None)
    return stage if stage is not None and trains_in_jobs() else None


def suspend_left_jobs(start: RunStart) -> None:
    """Have training jobs of a start whose pipeline has ended save and leave.

    Their launchers are gone. On a laptop there are none.
    """
    if not trains_in_jobs():
        return
    from kinetoscope.kube.connection import connect
    from kinetoscope.kube.launching.left import suspend_left
    from kinetoscope.kube.launching.others import Claim
    from kinetoscope.kube.profiles import choose_profile

    claim = Claim(start.run_id, start.number)
    why = "the pipeline that launched it has ended"
    try:
        suspend_left(connect(choose_profile()), claim, f"the end of run {claim.run_id}", why)
    except KinetoscopeError as error:
        _log.warning("training jobs that are left can't be looked for: %s", error)


def was_terminated() -> bool:
    """Tell whether the pipeline that this process's pod is of is being ended by somebody.

    False where that can't be told, and on a laptop.
    """
    pod = kubeflow_pod()
    if not pod:
        return False
    from kinetoscope.kube.connection import connect
    from kinetoscope.kube.launching.workflow import is_pod_of_ending
    from kinetoscope.kube.profiles import choose_profile

    try:
        return is_pod_of_ending(connect(choose_profile()), pod)
    except KinetoscopeError as error:
        _log.warning("whether the pipeline was terminated can't be told: %s", error)
        return False
