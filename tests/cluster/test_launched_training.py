"""A stage of the VAE trained by two pods, launched from a Job, through what clusters do to it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import installed
import pytest
from secrets_told import places_in, words_of_secret
from tiny.cluster_faults import (
    at_moments,
    delete_a_pod,
    drain,
    draw_faults,
    kill_a_pod,
    lose_the_node,
    suspend_and_resume,
)
from tiny.cluster_run import EVERY, STEP, ClusterRun
from tiny.training import lost

from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs.submit import Suspension, suspend
from kinetoscope.kube.launching.launcher import training_job
from kinetoscope.steps.contract import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.kube.connection import Cluster

NUM_STEPS = 200
NUM_FAULTS = 20
# Fills the pod's memory until the kernel has to take a process, and has it take the rank: what lies
# in /dev/shm counts for the pod, but not for whoever wrote it.
HOG = """
import pathlib, psutil
rank = psutil.Process(1).children()[0]
pathlib.Path(f"/proc/{rank.pid}/oom_score_adj").write_text("1000")
with open("/dev/shm/hog", "wb", buffering=0) as file:
    while rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE:
        file.write(b"x" * (4 << 20))
"""


def test_a_launched_stage_loses_nothing_and_leaves_nothing(
    cluster: Cluster,
    begin: Callable[..., ClusterRun],
    undisturbed: Callable[[ClusterRun], StepSpec],
) -> None:
    run = begin(NUM_STEPS, seed=1)
    launcher, twin = run.launch(), run.launch()
    run.wait_for_checkpoint(20)
    assert {pod["spec"]["nodeName"] for pod in run.training_pods()} == {"node-1", "node-2"}
    (job,) = run.train_jobs()
    delete_a_pod(run)
    run.wait_for_attempt(2)
    _delete_launcher(run)
    run.wait_for_checkpoint(run.newest() + 20)
    _let_go(cluster, run, seconds=3)
    run.wait_for_attempt(3)
    assert {one["metadata"]["uid"] for one in run.train_jobs()} == {job["metadata"]["uid"]}
    lines = installed.kubectl("logs", f"job/{launcher}", "-n", run.namespace)
    assert run.wait_for_end(launcher), run.told()
    assert run.wait_for_end(twin), run.told()
    assert lost(run.spec, undisturbed(run)) == []
    assert run.train_jobs() == []
    assert '"logger": "kinetoscope.' in lines, "the launcher shows what the first node writes"
    assert _places_of_secrets(run) == []


@pytest.mark.slow
def test_two_runs_share_a_step_and_a_stop_hands_it_over(
    begin: Callable[..., ClusterRun],
) -> None:
    first = begin(NUM_STEPS, seed=2)
    first_launcher = first.launch()
    first.wait_for(lambda: bool(first.train_jobs()), "the first run's job")
    second = begin(NUM_STEPS, seed=2)
    second_launcher = second.launch()
    second.wait_for(lambda: _state(second) == "waiting", "the second run's launcher to wait")
    assert first.step_uri == second.step_uri
    first.wait_for_checkpoint(10)
    assert len(first.train_jobs()) == 1
    first.run.latest_start().request_stop()
    assert not first.wait_for_end(first_launcher)
    saved = first.newest()
    assert second.wait_for_end(second_launcher), second.told()
    assert saved >= 10
    assert second.state.attempt
    assert second.state.attempt.run_id == second.run.run_id
    assert second.train_jobs() == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_faults_lose_nothing(
    begin: Callable[..., ClusterRun],
    undisturbed: Callable[[ClusterRun], StepSpec],
) -> None:
    faults = {fault.__name__: fault for fault in (delete_a_pod, kill_a_pod, drain, lose_the_node)}
    names = ["delete_a_pod"] * 8 + ["kill_a_pod"] * 4 + ["drain"] * 5 + ["lose_the_node"] * 3
    assert len(names) == NUM_FAULTS
    told, runs = at_moments(
        lambda number: begin(600, seed=300 + number),
        draw_faults(names, every=EVERY, seed=1),
        lambda run, name: faults[name](run),
    )
    assert told == []
    assert [lost(run.spec, undisturbed(run)) for run in runs] == [[]] * len(runs)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_suspensions_lose_nothing(
    cluster: Cluster,
    begin: Callable[..., ClusterRun],
    undisturbed: Callable[[ClusterRun], StepSpec],
) -> None:
    told, runs = at_moments(
        lambda number: begin(600, seed=400 + number),
        draw_faults(["suspend"] * NUM_FAULTS, every=EVERY, seed=2),
        lambda run, _: suspend_and_resume(run, cluster),
    )
    assert told == []
    assert [lost(run.spec, undisturbed(run)) for run in runs] == [[]] * len(runs)


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_told_after_the_restart(
    begin: Callable[..., ClusterRun],
) -> None:
    run = begin(NUM_STEPS, "cluster.training.memory=200Mi", seed=5)
    launcher = run.launch()
    run.wait_for(lambda: bool(run.job and run.job.failures), "a pod that ends")
    restarted = [failure.restart for failure in run.job.failures] if run.job else []
    assert restarted
    assert not run.wait_for_end(launcher)
    told = installed.call(installed.program("kino"), "status", run.run.run_id)
    assert "out-of-memory" in told
    failure = run.run.latest_start().failure(STEP)
    assert failure is not None
    assert "out-of-memory" in failure.reason or "out of memory" in failure.reason


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_that_runs_out_in_one_pod_counts_and_its_peer_does_not(
    begin: Callable[..., ClusterRun],
) -> None:
    run = begin(900, "cluster.training.shm=1500Mi", seed=7)
    launcher = run.launch()
    run.wait_for_checkpoint(20)
    second = run.training_pods()[1]["metadata"]["name"]
    installed.run("kubectl", "exec", second, "-n", run.namespace, "--", "python", "-c", HOG)
    run.wait_for_attempt(2)
    ends = [entry.what for entry in run.entries() if entry.what.kind == "attempt_end"]
    assert "node 1: out of memory" in ends[0].reason, ends
    run.wait_for(lambda: bool(run.job and run.job.counted_restarts), "the restart to count")
    assert run.job is not None
    assert run.job.counted_restarts == 1
    assert run.wait_for_end(launcher), run.told()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_pods_that_are_told_to_stop_before_they_listen_end_at_once(
    begin: Callable[..., ClusterRun],
) -> None:
    run = begin(60, seed=8)
    launcher = run.launch()
    for seconds in (0.0, 0.2, 0.5, 1.0, 2.0, 4.0):
        run.wait_for(lambda: len(_running(run, "Running")) > 0, "a pod that has just started")
        before = set(_running(run))
        time.sleep(seconds)
        installed.kubectl("delete", "pods", *before, "-n", run.namespace, "--wait=false")
        # Their grace is two and a half minutes.
        run.wait_for(partial(_are_gone, run, before), "their end", seconds=40)
    assert run.wait_for_end(launcher), run.told()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_without_its_launcher_saves_and_ends(begin: Callable[..., ClusterRun]) -> None:
    run = begin(5000, "cluster.training.orphan_minutes=0.5", seed=6)
    launcher = run.launch()
    run.wait_for_checkpoint(10)
    installed.kubectl("delete", "job", launcher, "-n", run.namespace, "--cascade=foreground")
    run.wait_for(lambda: not _running(run), "the end of the orphaned pods")
    ended = run.state.ended
    assert ended is not None
    assert (ended.code, "no sign of life" in ended.reason) == (79, True)
    assert run.newest() >= run.steps_trained() - 1
    run.begin()
    again = run.launch()
    run.wait_for_attempt(2)
    run.run.latest_start().request_stop()
    assert not run.wait_for_end(again)
    assert run.train_jobs() == []


def _running(run: ClusterRun, *phases: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in run.training_pods()
        if pod["status"]["phase"] in (phases or ("Pending", "Running"))
        and not (phases and "deletionTimestamp" in pod["metadata"])
    ]


def _are_gone(run: ClusterRun, pods: set[str]) -> bool:
    return not pods & {pod["metadata"]["name"] for pod in run.training_pods()}


def _state(run: ClusterRun) -> str:
    return run.job.state if run.job is not None else ""


def _delete_launcher(run: ClusterRun) -> None:
    """Delete the launcher's pod; its Job makes another one."""
    options = ("-n", run.namespace, "-l", "test=launcher")
    before = installed.kubectl("get", "pods", *options, "-o", "name")
    installed.kubectl("delete", "pods", *options)
    run.wait_for(
        lambda: installed.kubectl("get", "pods", *options, "-o", "name") not in ("", before),
        "another launcher",
    )


def _let_go(cluster: Cluster, run: ClusterRun, *, seconds: float) -> None:
    """Suspend the job as its launcher does with half a gang, for so long."""
    job = training_job(run.spec, "uri", run.namespace, PodConfig(), "torch_ddp")
    now = time.time()
    suspend(cluster, job, Suspension("a test", "to see it come back", "gang", now, now + seconds))


def _places_of_secrets(run: ClusterRun) -> list[str]:
    """Return where the store's keys stand that have no business there, plain or in base64."""
    assert words_of_secret()[1] in installed.kubectl(
        "get", "secrets", "-n", run.namespace, "-o", "json"
    )
    kinds = "pods,jobs,trainjobs,trainingruntimes,jobsets,configmaps,events,serviceaccounts"
    texts = {kinds: installed.kubectl("get", kinds, "-n", run.namespace, "-o", "json")}
    options = ("-n", run.namespace, "--all-containers", "--prefix", "-l", "test=launcher")
    texts["logs"] = installed.kubectl("logs", *options, "--tail=-1")
    for store in (run.run.store, run.root):
        texts |= {
            stat.key: store.get_bytes(stat.key).decode(errors="replace")
            for stat in store.list()
            if stat.key.endswith((".json", ".jsonl", ".log"))
        }
    return places_in(texts.items())
