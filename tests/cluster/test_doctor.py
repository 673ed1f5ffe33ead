"""``kino doctor --on cluster`` on an installed release: green, and what it says of each break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import installed
import pytest

if TYPE_CHECKING:
    from installed import Release

FULLNAME = "kinetoscope"
MADE = "trainjobs,trainingruntimes,jobsets,pods"
# Fields that the API server fills in, and refuses in a new object.
_SERVERS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")

Break = Callable[["Release"], AbstractContextManager[None]]


class Told(NamedTuple):
    """What the doctor must say about a break."""

    check: str
    state: str
    found: str
    hint: str


def _get(kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    where = ["-n", namespace] if namespace else []
    found: dict[str, Any] = json.loads(installed.kubectl("get", kind, name, *where, "-o", "json"))
    for field in _SERVERS:
        found["metadata"].pop(field, None)
    found.pop("status", None)
    return found


def _patch(kind: str, name: str, namespace: str | None, patch: object, *more: str) -> None:
    where = ["-n", namespace] if namespace else []
    what = "json" if isinstance(patch, list) else "merge"
    text = json.dumps(patch)
    installed.kubectl("patch", kind, name, *where, f"--type={what}", "-p", text, *more)


@contextmanager
def _without(kind: str, name: str, namespace: str | None) -> Iterator[None]:
    """Delete an object; make it again afterwards."""
    kept = _get(kind, name, namespace)
    where = ["-n", namespace] if namespace else []
    installed.kubectl("delete", kind, name, *where, "--wait=true", "--timeout=60s")
    try:
        yield
    finally:
        installed.kubectl("create", "-f", "-", given_input=json.dumps(kept))


@contextmanager
def _with_data(kind: str, name: str, namespace: str, data: dict[str, str]) -> Iterator[None]:
    """Change entries of a Secret or a ConfigMap; change them back afterwards."""
    kept = _get(kind, name, namespace)["data"]
    field = "stringData" if kind == "secret" else "data"
    _patch(kind, name, namespace, {field: data})
    try:
        yield
    finally:
        _patch(kind, name, namespace, {"data": kept})


def secret_missing(release: Release) -> AbstractContextManager[None]:
    return _without("secret", installed.SECRET, release.namespace)


@contextmanager
def verb_removed(release: Release) -> Iterator[None]:
    name = f"{FULLNAME}-launcher"
    kept = _get("role", name, release.namespace)["rules"]
    rules = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]} for rule in kept
    ]
    _patch("role", name, release.namespace, {"rules": rules})
    try:
        yield
    finally:
        _patch("role", name, release.namespace, {"rules": kept})


def template_missing(release: Release) -> AbstractContextManager[None]:
    return _without("configmap", f"{FULLNAME}-templates", release.namespace)


def bucket_missing(release: Release) -> AbstractContextManager[None]:
    data = {"KINO_STORE_URI": f"s3://no-such-bucket-{uuid4().hex[:8]}/x"}
    return _with_data("configmap", f"{FULLNAME}-environment", release.namespace, data)


def wrong_key(release: Release) -> AbstractContextManager[None]:
    return _with_data("secret", installed.SECRET, release.namespace, {"secretkey": "wrong"})


@contextmanager
def mlflow_down(release: Release) -> Iterator[None]:
    deployment = f"deployment/{FULLNAME}-mlflow"
    where = ("-n", release.namespace)
    installed.kubectl("scale", deployment, *where, "--replicas=0", "--timeout=60s")
    installed.kubectl(
        *("wait", "pod", "-l", "app.kubernetes.io/component=mlflow", *where),
        *("--for=delete", "--timeout=120s"),
    )
    try:
        yield
    finally:
        installed.kubectl("scale", deployment, *where, "--replicas=1")
        installed.kubectl("rollout", "status", deployment, *where, "--timeout=180s")


@contextmanager
def no_gpu(release: Release) -> Iterator[None]:
    _only_on_a_cluster_to_break()
    nodes = json.loads(installed.kubectl("get", "nodes", "-o", "json"))["items"]
    counts = {n["metadata"]["name"]: n["status"]["capacity"].get("nvidia.com/gpu") for n in nodes}
    try:
        _set_gpus(dict.fromkeys(counts, "0"))
        yield
    finally:
        _set_gpus({name: count for name, count in counts.items() if count})


def _set_gpus(counts: dict[str, str]) -> None:
    for name, count in counts.items():
        patch = [
            {"op": "add", "path": f"/status/{field}/nvidia.com~1gpu", "value": count}
            for field in ("capacity", "allocatable")
        ]
        _patch("node", name, None, patch, "--subresource=status")


@contextmanager
def custom_resources_absent(release: Release) -> Iterator[None]:
    _only_on_a_cluster_to_break()
    name = "trainjobs.trainer.kubeflow.org"
    with _without("crd", name, None):
        yield

    def served() -> bool:
        # `kubectl wait` fails on a new one, which has no conditions yet.
        found = json.loads(installed.kubectl("get", "crd", name, "-o", "json"))
        conditions = found.get("status", {}).get("conditions") or ()
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    installed.wait_until(served, f"{name} to be served again")


@contextmanager
def not_restricted(release: Release) -> Iterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    _patch("namespace", release.namespace, None, {"metadata": {"labels": {label: None}}})
    try:
        yield
    finally:
        _patch(
            "namespace", release.namespace, None, {"metadata": {"labels": {label: "restricted"}}}
        )


def _only_on_a_cluster_to_break() -> None:
    installed.given("KINO_TEST_BREAK_CLUSTER", "1 lets tests break the whole cluster for a while")


BREAKS = [
    (secret_missing, Told("probe pod", "bad", installed.SECRET, "objectStore.existingSecret")),
    (verb_removed, Told("launcher rights", "bad", "create trainjobs", "runNamespaces")),
    (template_missing, Told("runtime template", "bad", "not found", "helm upgrade")),
    (bucket_missing, Told("in-cluster object store", "bad", "NoSuchBucket", "create the bucket")),
    (wrong_key, Told("in-cluster object store", "bad", "SignatureDoesNotMatch", "existingSecret")),
    (mlflow_down, Told("in-cluster mlflow", "bad", "refused", "MLFLOW_TRACKING_URI")),
    (no_gpu, Told("gpu nodes", "bad", "no Ready node", "--without gpu")),
    (custom_resources_absent, Told("trainer", "bad", "trainjobs", "helm install")),
    (not_restricted, Told("pod security", "bad", "privileged", "enforce=restricted")),
]


@pytest.fixture(scope="session")
def without(cluster: object) -> tuple[str, ...]:
    """What this cluster lacks by itself."""
    nodes = json.loads(installed.kubectl("get", "nodes", "-o", "json"))["items"]
    gpus = [int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes]
    return () if any(gpus) else ("--without", "gpu")


@pytest.mark.parametrize(
    ("break_it", "told"), BREAKS, ids=[break_it.__name__ for break_it, _ in BREAKS]
)
def test_each_break_is_named_with_what_to_do_and_green_when_undone(
    release: Release, without: tuple[str, ...], break_it: Break, told: Told
) -> None:
    quick = ("--without", "training", *without)
    with break_it(release):
        if break_it is no_gpu:
            quick = ("--without", "training")
        code, findings = release.doctor(*quick)
        named = [f for f in findings if f["check"] == told.check]
        assert len(named) == 1, findings
        assert named[0]["state"] == told.state, named
        assert told.found in named[0]["found"], named
        assert told.hint in named[0]["hint"], named
        assert code == 1
    code, findings = release.doctor("--without", "training", *without)
    assert (code, [f for f in findings if f["state"] == "bad"]) == (0, [])


def test_what_was_made_is_gone_afterwards(release: Release, without: tuple[str, ...]) -> None:
    code, findings = release.doctor(*without)
    states = {f["check"]: f["state"] for f in findings}
    assert code == 0, [f for f in findings if f["state"] == "bad"]
    assert states["training"] == states["metrics target"] == "ok"
    assert _made_by_the_doctor(release.namespace) == []


def test_an_interrupt_deletes_the_smoke_job(release: Release) -> None:
    command = [str(Path(sys.executable).with_name("kino")), "doctor", "--on", "cluster"]
    command += ["--namespace", release.namespace, "--release", release.name]
    command += ["--without", "pipelines", "--without", "gpu", "--without", "mlflow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as doctor:
        assert doctor.stderr is not None
        for line in doctor.stderr:
            if b": running" in line or b": pending" in line:
                break
        assert any("kino-doctor" in name for name in _made_by_the_doctor(release.namespace))
        doctor.send_signal(signal.SIGTERM)
        doctor.communicate(timeout=120)
    assert doctor.returncode not in (0, None)
    deadline = time.monotonic() + 60
    while left := _made_by_the_doctor(release.namespace):
        assert time.monotonic() < deadline, left
        time.sleep(1)


def _made_by_the_doctor(namespace: str) -> list[str]:
    names = [item["metadata"]["name"] for item in installed.items(MADE, namespace)]
    return [name for name in names if "-doctor-" in name]


def test_a_train_job_with_a_privileged_pod_gets_no_pod(release: Release) -> None:
    name = f"escalate-{uuid4().hex[:6]}"
    where = ("-n", release.namespace)
    pod = {
        "restartPolicy": "Never",
        "hostPID": True,
        "containers": [
            {
                "name": "node",
                "image": "none",
                "securityContext": {"privileged": True, "runAsUser": 0},
                "volumeMounts": [{"name": "node", "mountPath": "/node"}],
            }
        ],
        "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
    }
    labels = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    job = {"metadata": {"labels": labels}, "spec": {"template": {"spec": pod}}}
    api = {"apiVersion": "trainer.kubeflow.org/v1alpha1"}
    meta = {"name": name, "namespace": release.namespace}
    runtime = {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {"spec": {"replicatedJobs": [{"name": "node", "template": job}]}},
    }
    reference = {"kind": "TrainingRuntime", "name": name}
    try:
        installed.apply({**api, "kind": "TrainingRuntime", "metadata": meta, "spec": runtime})
        train = {"runtimeRef": reference, "trainer": {"command": ["id"], "numProcPerNode": 1}}
        installed.apply({**api, "kind": "TrainJob", "metadata": meta, "spec": train})
        installed.wait_until(
            lambda: "violates PodSecurity" in installed.kubectl("get", "events", *where),
            "an event of PodSecurity",
            seconds=60,
        )
        pods = [item["metadata"]["name"] for item in installed.items("pods", release.namespace)]
        assert not [pod_name for pod_name in pods if pod_name.startswith(name)]
    finally:
        installed.kubectl("delete", "trainjob,trainingruntime", name, *where, "--ignore-not-found")


def test_nobody_at_the_address_is_one_finding_with_a_hint(cluster: object, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("none")
    profiles = {
        "current": "away",
        "profiles": [{"name": "away", "endpoint": "https://127.0.0.1:9", "token_file": str(token)}],
    }
    path = tmp_path / "profiles.yaml"
    path.write_text(json.dumps(profiles))
    path.chmod(0o600)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("kino")), "doctor", "--on", "cluster", "--json"],
        env={**os.environ, "KINO_PROFILES": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    (finding,) = json.loads(done.stdout)
    assert done.returncode == 1
    assert (finding["check"], finding["state"]) == ("api", "bad")
    assert "https://127.0.0.1:9" in finding["hint"]
    assert "Traceback" not in done.stderr
