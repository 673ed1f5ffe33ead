"""Training jobs on a real cluster with Kubeflow Trainer, from the chart's own template."""

from __future__ import annotations

import base64
import dataclasses
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python
import pytest
import yaml
from kubernetes import client

from kinetoscope.core.errors import ClusterError, ConfigError, NotFoundError
from kinetoscope.kube.api_errors import AbsentError, ForbiddenError
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import connect
from kinetoscope.kube.jobs.render import GROUP, VERSION, render_runtime
from kinetoscope.kube.jobs.submit import (
    Suspension,
    TrainingJob,
    delete,
    follow,
    job_name,
    logs,
    observe,
    resume,
    submit,
    suspend,
    wait,
)
from kinetoscope.kube.jobs.template import read_template
from kinetoscope.kube.profiles import make_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.kube.connection import Cluster
    from kinetoscope.kube.jobs.state import Observation

CHART = Path(__file__).parents[2] / "charts" / "kinetoscope"
PYTHON_IMAGE = os.environ.get("KINO_TEST_PYTHON_IMAGE", "python:3.11-slim-bookworm")
SUSPENSION = Suspension(by="a test", why="to see it come back")
SECRET = "object-store"  # noqa: S105  # the name of a Secret
END_SECONDS = 90

# Writes what it was told, then saves for a while when it is told to stop.
SAVES_FOR = """
import signal, sys, time
def save(*_):
    print("saving", flush=True)
    time.sleep({seconds})
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("training", flush=True)
while True:
    time.sleep(0.1)
"""

# The name of the first node appears a moment after its pod.
FINDS_MASTER = """
import os, socket, time
for _ in range(100):
    try:
        socket.gethostbyname(os.environ["PET_MASTER_ADDR"])
        print("found")
        break
    except OSError:
        time.sleep(0.2)
"""


@pytest.fixture(autouse=True)
def _trainer(cluster: Cluster) -> None:
    try:
        cluster.custom.list_namespaced_custom_object(GROUP, VERSION, "default", "trainjobs")
    except AbsentError:
        pytest.skip("the cluster has no Kubeflow Trainer (no TrainJobs)")


@pytest.fixture
def runs(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A run namespace with what the chart puts there."""
    for item in chart_objects(namespace):
        if item["kind"] == "ConfigMap":
            cluster.core.create_namespaced_config_map(namespace, item)
        elif item["kind"] == "ServiceAccount":
            cluster.core.create_namespaced_service_account(namespace, item)
    nothing = base64.b64encode(b"unused").decode()
    secret = {"metadata": {"name": SECRET}, "data": {"accesskey": nothing, "secretkey": nothing}}
    cluster.core.create_namespaced_secret(namespace, secret)
    yield namespace
    # Namespaces are deleted while pods still have their grace (600 s): end them now.
    cluster.core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)


def chart_objects(namespace: str) -> list[dict[str, Any]]:
    values = {
        "objectStore": {"endpoint": "https://s3.invalid", "existingSecret": SECRET},
        "mlflow": {"enabled": False, "externalUri": "https://mlflow.invalid"},
        "runNamespaces": [{"name": namespace, "serviceAccount": "default"}],
        "training": {"resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi"}}},
    }
    rendered = helm_python.Chart.load(CHART).render(values, name="kinetoscope", namespace=namespace)
    paths = [path for path in rendered if "/templates/runs/" in path]
    return [item for path in paths for item in yaml.safe_load_all(rendered[path]) if item]


def make_job(namespace: str, code: str, **changes: Any) -> TrainingJob:
    """A job that runs a Python program, which is all that the base image can."""
    values: dict[str, Any] = {
        "name": job_name("train-vae", "rtest123"),
        "namespace": namespace,
        "run": "rtest123",
        "stage": "train-vae",
        "command": ["python", "-uc", code],
        "pod": PodConfig(image=PYTHON_IMAGE, gpus=0),
    }
    return TrainingJob(**{**values, **changes})


@contextmanager
def edited_container(cluster: Cluster, namespace: str) -> Iterator[dict[str, Any]]:
    """The training container of the chart's template, to be changed."""
    name, key = "kinetoscope-templates", "training-runtime.yaml"
    template = yaml.safe_load(cluster.core.read_namespaced_config_map(name, namespace).data[key])
    node = template["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    yield node["template"]["spec"]["containers"][0]
    patch = {"data": {key: yaml.safe_dump(template)}}
    cluster.core.patch_namespaced_config_map(name, namespace, patch)


def tell_the_attempt(cluster: Cluster, namespace: str) -> None:
    """Let pods know in ATTEMPT how often the job was restarted."""
    path = "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"
    with edited_container(cluster, namespace) as container:
        source = {"fieldRef": {"fieldPath": path}}
        container.setdefault("env", []).append({"name": "ATTEMPT", "valueFrom": source})


def kinds(seen: Observation) -> set[str]:
    return {reason.kind for reason in seen.reasons}


def wait_for_reason(cluster: Cluster, job: TrainingJob, kind: str, says: str) -> str:
    """The message of the first reason of that kind that says so.

    A busy cluster may give others of the kind before (a kubelet's cache of secrets is not synced).
    """
    end = time.monotonic() + END_SECONDS
    while True:
        seen = observe(cluster, job)
        assert seen.state in ("pending", "unknown"), seen
        for reason in seen.reasons:
            if reason.kind == kind and says in reason.message:
                return reason.message
        assert time.monotonic() < end, seen
        time.sleep(0.5)


def wait_for_pods(cluster: Cluster, job: TrainingJob) -> Observation:
    end = time.monotonic() + END_SECONDS
    while (seen := observe(cluster, job)).state != "running":
        assert time.monotonic() < end, seen
        time.sleep(0.3)
    return seen


def test_two_nodes_run_to_the_end_and_find_each_other(cluster: Cluster, runs: str) -> None:
    code = FINDS_MASTER + (
        "print(*(os.environ['PET_' + k] for k in ('NODE_RANK', 'NNODES', 'NPROC_PER_NODE')))\n"
        "print(os.environ['KINO_METRICS_PORT'], os.environ['GREETING'])"
    )
    job = make_job(runs, code, num_nodes=2, procs_per_node=3, env={"GREETING": "hello"})
    states: list[str] = []
    assert not submit(cluster, job).adopted
    seen = wait(
        cluster, job, on_change=lambda o: states.append(o.state), timeout_seconds=END_SECONDS
    )
    assert seen.state == "succeeded", seen
    assert states[0] == "pending"
    assert [pod.exit_code for pod in seen.pods] == [0, 0]
    for rank in range(2):
        assert logs(cluster, job, rank).split("\n")[-4:] == [
            "found",
            f"{rank} 2 3",
            "9464 hello",
            "",
        ]
    assert logs(cluster, job, 1, last_lines=1) == "9464 hello\n"
    with pytest.raises(NotFoundError, match="node 2 of"):
        logs(cluster, job, 2)


def test_the_same_job_is_adopted_and_another_one_refused(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, "print('once')")
    first = submit(cluster, job)
    assert submit(cluster, job) == dataclasses.replace(first, adopted=True)
    with pytest.raises(ConfigError, match="asks for something else"):
        submit(cluster, dataclasses.replace(job, num_nodes=2))
    assert wait(cluster, job, timeout_seconds=END_SECONDS).state == "succeeded"
    assert submit(cluster, job).uid == first.uid


def test_a_submit_that_was_interrupted_does_not_hinder_the_next(
    cluster: Cluster, runs: str
) -> None:
    job = make_job(runs, "print('done')", num_nodes=1)
    left = render_runtime(read_template(cluster, runs), dataclasses.replace(job, num_nodes=2))
    cluster.custom.create_namespaced_custom_object(GROUP, VERSION, runs, "trainingruntimes", left)
    assert not submit(cluster, job).adopted
    made = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, runs, "trainjobs", job.name)
    assert made["spec"]["runtimeRef"]["name"] != left["metadata"]["name"]
    assert wait(cluster, job, timeout_seconds=END_SECONDS).state == "succeeded"


@pytest.mark.parametrize("code", [2, 77])
def test_user_errors_and_divergence_end_the_job_at_once(
    cluster: Cluster, runs: str, code: int
) -> None:
    job = make_job(runs, f"import sys; print('last words'); sys.exit({code})", num_nodes=2)
    submit(cluster, job)
    seen = wait(cluster, job, timeout_seconds=END_SECONDS)
    assert (seen.state, seen.counted_restarts) == ("failed", 0), seen
    assert {pod.exit_code for pod in seen.failures} == {code}
    assert "last words" in seen.failures[0].message
    assert {"exit", "failed"} <= kinds(seen)


def test_a_crash_is_restarted_within_the_limit(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, "import sys; sys.exit(1)", max_restarts=1)
    submit(cluster, job)
    seen = wait(cluster, job, timeout_seconds=END_SECONDS)
    assert (seen.state, seen.counted_restarts) == ("failed", 1), seen
    assert sorted((pod.attempt, pod.exit_code) for pod in seen.failures) == [(0, 1), (1, 1)]


def test_a_restart_after_code_75_is_free(cluster: Cluster, runs: str) -> None:
    tell_the_attempt(cluster, runs)
    code = "import os, sys; sys.exit(75 if os.environ['ATTEMPT'] == '0' else 0)"
    job = make_job(runs, code, max_restarts=0)
    submit(cluster, job)
    seen = wait(cluster, job, timeout_seconds=END_SECONDS)
    assert (seen.state, seen.counted_restarts) == ("succeeded", 0), seen
    assert [(pod.attempt, pod.exit_code) for pod in seen.failures] == [(0, 75)]


def test_a_suspended_job_saves_leaves_and_comes_back(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, SAVES_FOR.format(seconds=3), num_nodes=2)
    submit(cluster, job)
    wait_for_pods(cluster, job)
    suspend(cluster, job, SUSPENSION)
    assert observe(cluster, job).state == "suspended"
    seen = wait(cluster, job, timeout_seconds=END_SECONDS)
    assert (seen.state, seen.pods) == ("suspended", ())
    assert [pod.exit_code for pod in seen.failures] == [75, 75]
    assert all(pod.message.endswith("saving\nsaved\n") for pod in seen.failures)
    assert submit(cluster, job).suspended
    resume(cluster, job)
    assert wait_for_pods(cluster, job).counted_restarts == 0


def test_a_deleted_job_leaves_nothing_and_gets_no_twin(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, SAVES_FOR.format(seconds=5))
    submit(cluster, job)
    wait_for_pods(cluster, job)
    delete(cluster, job)
    with pytest.raises(ClusterError, match="still there"):
        submit(cluster, job)
    delete(cluster, job, wait_seconds=END_SECONDS)
    for plural in ("trainjobs", "trainingruntimes"):
        listed = cluster.custom.list_namespaced_custom_object(GROUP, VERSION, runs, plural)
        assert listed["items"] == []
    assert not submit(cluster, job).adopted
    assert kinds(observe(cluster, dataclasses.replace(job, name="other"))) == {"deleted"}


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_job_goes_whoever_deletes_it_however(cluster: Cluster, runs: str, policy: str) -> None:
    """Would the TrainJob own its runtime, a foreground deletion would hang for ever."""
    job = make_job(runs, SAVES_FOR.format(seconds=1))
    submit(cluster, job)
    wait_for_pods(cluster, job)
    cluster.custom.delete_namespaced_custom_object(
        GROUP, VERSION, runs, "trainjobs", job.name, propagation_policy=policy
    )
    end = time.monotonic() + END_SECONDS
    while "deleted" not in kinds(observe(cluster, job)):
        assert time.monotonic() < end, f"the TrainJob stays after a {policy} deletion"
        time.sleep(0.5)
    delete(cluster, job, wait_seconds=END_SECONDS)
    assert not submit(cluster, job).adopted


def test_too_many_gpus_are_a_reason_to_wait(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, "print()", pod=PodConfig(image=PYTHON_IMAGE, gpus=10_000))
    submit(cluster, job)
    wait_for_reason(cluster, job, "unschedulable", says="nvidia.com/gpu")
    assert wait(cluster, job, timeout_seconds=1).state == "pending"


def test_an_exceeded_quota_is_a_reason_to_wait(cluster: Cluster, runs: str) -> None:
    quota = {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}}
    cluster.core.create_namespaced_resource_quota(runs, quota)
    job = make_job(runs, "print()")
    submit(cluster, job)
    wait_for_reason(cluster, job, "quota", says="exceeded quota: tight")


def test_a_missing_image_is_a_reason_to_wait(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, "print()", pod=PodConfig(image="localhost:5000/kinetoscope/nothing:0"))
    submit(cluster, job)
    wait_for_reason(cluster, job, "image", says="kinetoscope/nothing:0")
    assert observe(cluster, job).reasons[0].hint


def test_a_missing_secret_is_a_reason_to_wait(cluster: Cluster, runs: str) -> None:
    cluster.core.delete_namespaced_secret(SECRET, runs)
    job = make_job(runs, "print()")
    submit(cluster, job)
    wait_for_reason(cluster, job, "volume", says=f'secret "{SECRET}" not found')


def test_a_privileged_pod_is_refused_and_says_so(cluster: Cluster, runs: str) -> None:
    with edited_container(cluster, runs) as container:
        container["securityContext"] = {"privileged": True}
    job = make_job(runs, "print()")
    submit(cluster, job)
    message = wait_for_reason(cluster, job, "pod-security", says='violates PodSecurity "restricted')
    assert "privileged" in message


def test_an_exceeded_memory_limit_is_recorded(cluster: Cluster, runs: str) -> None:
    job = make_job(runs, "print(len(bytearray(1 << 30)))", max_restarts=1)
    submit(cluster, job)
    seen = wait(cluster, job, timeout_seconds=END_SECONDS)
    assert seen.state == "failed"
    assert [pod.reason for pod in seen.failures] == ["OOMKilled", "OOMKilled"]
    assert "out-of-memory" in kinds(seen)


def test_lines_are_followed_through_a_restart(cluster: Cluster, runs: str) -> None:
    tell_the_attempt(cluster, runs)
    code = (
        "import os, sys, time\n"
        "attempt = os.environ['ATTEMPT']\n"
        "for step in range(3):\n"
        "    print(attempt, step)\n"
        "    time.sleep(1)\n"
        "print('end', end='')\n"
        "sys.exit(75 if attempt == '0' else 0)"
    )
    job = make_job(runs, code)
    submit(cluster, job)
    lines = list(follow(cluster, job))
    assert lines[:4] == ["0 0", "0 1", "0 2", "end"]
    assert lines[-4:] == ["1 0", "1 1", "1 2", "end"]
    assert len(lines) == 8


def test_a_namespace_without_the_chart_says_what_to_do(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFoundError, match="no ConfigMap kinetoscope-templates") as error:
        submit(cluster, make_job(namespace, "print()"))
    assert "helm upgrade --install" in str(error.value.hint)


def test_the_chart_s_role_is_all_that_a_launcher_needs(
    cluster: Cluster, runs: str, tmp_path: Path
) -> None:
    rbac = client.RbacAuthorizationV1Api(cluster.api)
    for item in chart_objects(runs):
        if item["kind"] == "Role":
            rbac.create_namespaced_role(runs, item)
        elif item["kind"] == "RoleBinding":
            rbac.create_namespaced_role_binding(runs, item)
    launcher = connect_as_default(cluster, runs, tmp_path)
    job = make_job(runs, SAVES_FOR.format(seconds=1))
    submit(launcher, job)
    assert "training" in next(follow(launcher, job))
    suspend(launcher, job, SUSPENSION)
    assert wait(launcher, job, timeout_seconds=END_SECONDS).state == "suspended"
    resume(launcher, job)
    wait_for_pods(launcher, job)
    assert logs(launcher, job, last_lines=1) in ("", "training\n")
    delete(launcher, job, wait_seconds=END_SECONDS)


def connect_as_default(cluster: Cluster, namespace: str, folder: Path) -> Cluster:
    """Connect as the namespace's ServiceAccount `default`."""
    account = cluster.core.create_namespaced_service_account_token(
        "default", namespace, {"spec": {"audiences": None}}
    )
    path = folder / "token"
    path.write_text(account.status.token)
    configuration = cluster.api.configuration
    profile = make_profile(
        name="weak",
        endpoint=configuration.host,
        token_file=path,
        ca_file=configuration.ssl_ca_cert,
    )
    return connect(profile)


def test_a_token_that_may_nothing_is_told_from_a_wrong_one(
    cluster: Cluster, runs: str, tmp_path: Path
) -> None:
    weak = connect_as_default(cluster, runs, tmp_path)
    assert weak.version() == cluster.version()
    with pytest.raises(ForbiddenError, match=f"list pods in namespace {runs}: 403") as error:
        weak.core.list_namespaced_pod(runs)
    assert "kubectl auth can-i list pods" in str(error.value.hint)
    assert observe(weak, make_job(runs, "print()")).state == "unknown"
