"""Launched training while parts of the cluster are away, full, or ended by somebody."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import installed
import pytest
import yaml
from tiny.cluster_faults import killed
from tiny.cluster_run import STEP, ClusterRun
from tiny.training import lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kinetoscope.kube.connection import Cluster
    from kinetoscope.steps.contract import StepSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AWAY_SECONDS = 60
NUM_JOBS = 20
# Read by every Python that finds it: the ranks of a pod end at once, as if somebody had told them.
ALWAYS_75 = "import os\n'RANK' in os.environ and os._exit(75)\n"
# As much of Argo's custom resource as a launcher reads.
WORKFLOWS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "workflows.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "names": {"kind": "Workflow", "plural": "workflows", "singular": "workflow"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def test_an_api_server_that_is_away_loses_nothing(
    begin: Callable[..., ClusterRun], undisturbed: Callable[[ClusterRun], StepSpec]
) -> None:
    run = begin(900, seed=31)
    launcher = run.launch()
    run.wait_for_checkpoint(20)
    before = run.newest()
    with killed("kube-apiserver", AWAY_SECONDS):
        run.wait_for_checkpoint(before + 20)
    assert run.state.generation == 1
    assert run.wait_for_end(launcher), run.told()
    assert (run.state.generation, lost(run.spec, undisturbed(run))) == (1, [])


def test_a_store_that_is_away_while_a_rank_dies_loses_nothing(
    begin: Callable[..., ClusterRun], undisturbed: Callable[[ClusterRun], StepSpec]
) -> None:
    run = begin(900, seed=32)
    launcher = run.launch()
    run.wait_for_checkpoint(20)
    (pod, *_) = [pod["metadata"]["name"] for pod in run.training_pods()]
    with killed("minio", AWAY_SECONDS):
        time.sleep(AWAY_SECONDS / 3)
        kill = "import os, signal, psutil; psutil.Process(1).children()[0].kill()"
        installed.kubectl("exec", pod, "-n", run.namespace, "--", "python", "-c", kill)
        time.sleep(1)
    run.wait_for_attempt(2)
    assert run.wait_for_end(launcher), run.told()
    assert lost(run.spec, undisturbed(run)) == []
    commits = [entry.generation for entry in run.entries() if entry.what.kind == "checkpoint"]
    assert commits == sorted(commits)


def test_too_few_gpus_are_told_and_half_a_gang_lets_go(begin: Callable[..., ClusterRun]) -> None:
    # Of two pods, only one finds its six of the eight GPUs of a node twice over.
    place = '{"kubernetes.io/hostname": node-1}'
    sizes = "gpus: 6, memory: 1500Mi, cpu: 50m, shm: 64Mi"
    asked = f"{{{sizes}, gang_minutes: 0.5, node_selector: {place}}}"
    run = begin(60, f"cluster.training={asked}", seed=33)
    launcher = run.launch()
    run.wait_for(lambda: "unschedulable" in _kinds(run), "a pod without a place")
    told = installed.call(installed.program("kino"), "status", run.run.run_id)
    assert "unschedulable" in told
    assert "nvidia.com/gpu" in told
    run.wait_for(lambda: _state(run) == "suspended" and not run.training_pods(), "letting go")
    assert run.job is not None
    (reason,) = [reason for reason in run.job.reasons if reason.kind == "suspended"]
    assert "waited 0.5 minutes for others" in reason.message
    assert "until" in reason.message
    run.wait_for(lambda: bool(run.training_pods()), "trying again")
    run.run.latest_start().request_stop()
    assert not run.wait_for_end(launcher)
    assert (run.train_jobs(), run.training_pods()) == ([], [])


def test_twenty_short_jobs_share_eight_gpus(begin: Callable[..., ClusterRun]) -> None:
    asked = "{gpus: 4, memory: 1500Mi, cpu: 20m, shm: 64Mi, gang_minutes: 0}"
    given = (f"cluster.training={asked}", "runtimes.training.num_nodes=1")
    runs = [begin(2, *given, seed=100 + number) for number in range(NUM_JOBS)]
    launchers = [run.launch() for run in runs]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(ClusterRun.wait_for_end, runs, launchers, [1500.0] * NUM_JOBS))
    assert ended == [True] * NUM_JOBS
    assert runs[0].train_jobs() == []


def test_a_trainer_that_always_exits_75_is_stopped_by_the_brake(
    cluster: Cluster, begin: Callable[..., ClusterRun]
) -> None:
    run = begin(60, seed=34)
    with _always_75(cluster, run.namespace):
        launcher = run.launch()
        assert not run.wait_for_end(launcher)
    failure = run.run.latest_start().failure(STEP)
    assert failure is not None
    assert (failure.code, "without having come further" in failure.reason) == (77, True)
    assert run.state.generation == 3
    assert run.train_jobs() == []


def test_the_end_of_its_workflow_suspends_training(
    cluster: Cluster, begin: Callable[..., ClusterRun]
) -> None:
    run = begin(5000, seed=35)
    with _workflow(cluster, run.namespace) as (name, patch):
        launcher = run.launch(labels={"workflows.argoproj.io/workflow": name})
        run.wait_for_checkpoint(10)
        patch({"spec": {"activeDeadlineSeconds": 0}})
        run.wait_for(lambda: _note(run) != "", "a note of the suspension", seconds=10)
        assert f"workflow {name} is being ended" in _note(run)
        run.wait_for(lambda: not run.training_pods(), "the pods' end", seconds=150)
        assert not run.wait_for_end(launcher)
    (job,) = run.train_jobs()
    assert job["spec"]["suspend"] is True
    saved = run.newest()
    assert saved >= run.steps_trained()
    run.begin()  # as a resume does
    again = run.launch()
    run.wait_for_checkpoint(saved + 10)
    run.run.latest_start().request_stop()
    assert not run.wait_for_end(again)


def _kinds(run: ClusterRun) -> set[str]:
    return {reason.kind for reason in run.job.reasons} if run.job is not None else set()


def _state(run: ClusterRun) -> str:
    return run.job.state if run.job is not None else ""


def _note(run: ClusterRun) -> str:
    jobs = run.train_jobs()
    annotations = jobs[0]["metadata"].get("annotations") or {} if jobs else {}
    return str(annotations.get("kinetoscope.dev/suspended", ""))


@contextmanager
def _always_75(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Let the ranks of the chart's training pods end with 75."""
    body = {"metadata": {"name": "always-75"}, "data": {"sitecustomize.py": ALWAYS_75}}
    cluster.core.create_namespaced_config_map(namespace, body)
    templates = cluster.core.read_namespaced_config_map("kinetoscope-templates", namespace).data
    key, folder = "training-runtime.yaml", "/opt/always-75"
    changed = yaml.safe_load(templates[key])
    job = changed["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    spec = job["template"]["spec"]
    container = spec["containers"][0]
    spec["volumes"].append({"name": "always-75", "configMap": {"name": "always-75"}})
    container["volumeMounts"].append({"name": "always-75", "mountPath": folder})
    known = {one["name"]: one for one in container["env"]}
    before = known.get("PYTHONPATH", {}).get("value", "")
    others = [one for name, one in known.items() if name != "PYTHONPATH"]
    path = {"name": "PYTHONPATH", "value": f"{folder}:{before}".rstrip(":")}
    container["env"] = [*others, path]
    _patch_template(cluster, namespace, {key: yaml.safe_dump(changed)})
    try:
        yield
    finally:
        _patch_template(cluster, namespace, {key: templates[key]})
        cluster.core.delete_namespaced_config_map("always-75", namespace)


def _patch_template(cluster: Cluster, namespace: str, data: dict[str, str]) -> None:
    cluster.core.patch_namespaced_config_map("kinetoscope-templates", namespace, {"data": data})


@contextmanager
def _workflow(
    cluster: Cluster, namespace: str
) -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    """Give a Workflow that no controller acts on, and a way to change it."""
    there = installed.run("kubectl", "get", "crd", "workflows.argoproj.io").returncode == 0
    if not there:
        installed.apply(WORKFLOWS)
        options = ("--for=condition=Established", "--timeout=30s")
        installed.kubectl("wait", "crd/workflows.argoproj.io", *options)
    name = "pipeline-abc"
    meta = {"name": name, "namespace": namespace}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    installed.apply({**kind, "metadata": meta, "spec": {}})

    def patch(change: dict[str, Any]) -> None:
        options = ("-n", namespace, "--type=merge", "-p", json.dumps(change))
        installed.kubectl("patch", f"workflow/{name}", *options)

    try:
        yield name, patch
    finally:
        if not there:
            installed.kubectl("delete", "crd", "workflows.argoproj.io")
