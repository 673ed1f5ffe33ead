"""What clusters do to the pods of a training: deletion, drain, a lost node, suspension."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import installed
from tiny.cluster_run import EVERY, ClusterRun

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.render import GROUP, TRAIN_JOBS, VERSION

SECOND_NODE = "node-2"
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
_LOST_SECONDS = 90
KILLS = frozenset({"kill_a_pod", "lose_the_node"})


@dataclass(frozen=True)
class Fault:
    """Something that happens to a training.

    Attributes:
        name: of a function below.
        steps: that are saved between the one before and this.
        seconds: to wait then.
    """

    name: str
    steps: int
    seconds: float


def draw_faults(names: list[str], *, every: int, seed: int) -> list[Fault]:
    """Draw the moments of faults, and their order."""
    draws = random.Random(seed)  # noqa: S311
    order = draws.sample(names, len(names))
    return [Fault(name, every * draws.randint(1, 3), draws.uniform(0, 3)) for name in order]


def delete_a_pod(run: ClusterRun) -> None:
    """Delete one of the pods, which gets its grace."""
    pod = run.training_pods()[-1]["metadata"]["name"]
    installed.kubectl("delete", "pod", pod, "-n", run.namespace, "--wait=false")


def kill_a_pod(run: ClusterRun) -> None:
    """Delete a pod without a grace: its processes are killed."""
    pod = run.training_pods()[0]["metadata"]["name"]
    options = ("--grace-period=0", "--force", "--wait=false")
    installed.kubectl("delete", "pod", pod, "-n", run.namespace, *options)


def drain(run: ClusterRun) -> None:
    """Drain a node, as before an upgrade; whatever is there has to go elsewhere."""
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s")
    try:
        installed.kubectl("drain", SECOND_NODE, *options)
    finally:
        installed.kubectl("uncordon", SECOND_NODE)
    assert run.train_jobs(), "a drain deletes no TrainJob"


def lose_the_node(run: ClusterRun) -> None:
    """Kill a node's kubelet; somebody who knows that the node is off says so after a while."""
    if all(pod["spec"].get("nodeName") != SECOND_NODE for pod in run.training_pods()):
        return
    with killed("kubelet-2", _LOST_SECONDS + 60):
        run.wait_for(lambda: _names_the_node(run), f"word of {SECOND_NODE}", seconds=_LOST_SECONDS)
        installed.kubectl("taint", "node", SECOND_NODE, _OUT_OF_SERVICE)
        try:
            run.wait_for(lambda: not _is_there(run), "the pods' end", seconds=60)
        finally:
            installed.kubectl("taint", "node", SECOND_NODE, f"{_OUT_OF_SERVICE}-")
    installed.kubectl("wait", f"node/{SECOND_NODE}", "--for=condition=Ready", "--timeout=120s")


def suspend_and_resume(run: ClusterRun, cluster: Cluster) -> None:
    """Suspend the job as an administrator would, and lift that once its pods are gone."""
    (name,) = (job["metadata"]["name"] for job in run.train_jobs())
    _set_suspend(cluster, run, name, True)
    run.wait_for(lambda: not run.training_pods(), "the suspended pods' end", seconds=150)
    assert not any(_conditions(job) & {"Failed"} for job in run.train_jobs())
    _set_suspend(cluster, run, name, False)


@contextmanager
def killed(process: str, seconds: float) -> Iterator[None]:
    """Kill a process of the cluster, which comes back after a while."""
    command = installed.given("KINO_TEST_FAULT", "a command that kills a process of the cluster")
    away = subprocess.Popen([*command.split(), process, "--seconds", str(seconds)])
    try:
        yield
    finally:
        assert away.wait(seconds + 60) == 0


def at_moments(
    begin: Callable[[int], ClusterRun],
    faults: list[Fault],
    strike: Callable[[ClusterRun, str], None],
) -> tuple[list[str], list[ClusterRun]]:
    """Let faults happen to trainings, of which each goes on to its end.

    Whoever gets a SIGTERM saves what was trained; what is killed costs an interval of checkpoints.

    Args:
        begin: makes the training of a number; the next one begins when one is done.
        faults: in their order.
        strike: does to a training what is named.

    Returns:
        What they cost that they may not cost; the trainings, which are done.
    """
    told: list[str] = []
    runs: list[ClusterRun] = []
    launchers: list[str] = []
    for number, fault in enumerate(faults):
        while not (runs and _trains_up_to(runs[-1], fault)):
            runs.append(begin(len(runs)))
            launchers.append(runs[-1].launch())
        run = runs[-1]
        time.sleep(fault.seconds)
        attempts, trained = run.state.generation, run.steps_trained()
        strike(run, fault.name)
        run.wait_for(partial(_goes_on, run, attempts), f"what comes after {fault}")
        allowed = EVERY if fault.name in KILLS else 0
        if run.state.result is None and run.newest() < trained - allowed:
            told.append(f"{number}: {fault}: {trained} were trained, {run.newest()} are kept")
    for run, launcher in zip(runs, launchers, strict=True):
        assert run.wait_for_end(launcher), run.told()
    return told, runs


def _trains_up_to(run: ClusterRun, fault: Fault) -> bool:
    """Wait until a training has come to the moment of a fault; False where it is done before."""
    step = run.newest() + fault.steps
    run.wait_for(lambda: run.newest() >= step or run.state.result is not None, f"step {step}")
    return run.state.result is None


def _goes_on(run: ClusterRun, attempts: int) -> bool:
    state = run.state
    return state.generation > attempts or state.result is not None


def _names_the_node(run: ClusterRun) -> bool:
    job = run.job
    return job is not None and any(
        reason.kind == "node-lost" and SECOND_NODE in reason.subject for reason in job.reasons
    )


def _is_there(run: ClusterRun) -> bool:
    return any(
        pod["spec"].get("nodeName") == SECOND_NODE and "deletionTimestamp" in pod["metadata"]
        for pod in run.training_pods()
    )


def _set_suspend(cluster: Cluster, run: ClusterRun, name: str, value: bool) -> None:
    which = (GROUP, VERSION, run.namespace, TRAIN_JOBS, name)
    patch = {"spec": {"suspend": value}}
    cluster.custom.patch_namespaced_custom_object(*which, patch)


def _conditions(job: dict[str, Any]) -> set[str]:
    found = (job.get("status") or {}).get("conditions") or ()
    return {one["type"] for one in found if one["status"] == "True"}
