"""The chart as a platform engineer installs it: helm and kubectl, restricted namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "kinetoscope"
RUNNER = "pipeline-runner"
SECRET = "object-store"  # noqa: S105  # the name of a Secret
SITE_PACKAGES_PATH = "/opt/site-packages"
_TIMEOUT = "300s"
_COMMAND_SECONDS = 600
# "warn" names the Deployments and Jobs whose pods "enforce" would refuse.
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def given(name: str, what: str) -> str:
    """Return an environment variable of the test run; skip, saying what is missing, without it."""
    value = os.environ.get(name, "")
    if not value:
        pytest.skip(f"{name} is not set: {what}")
    return value


def program(name: str) -> str:
    """Return a program of the PATH; skip without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on the PATH")
    return path


def run(*command: object, given_input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(part) for part in command],
        input=given_input,
        text=True,
        capture_output=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )


def call(*command: object, given_input: str | None = None) -> str:
    """Run a command and return its stdout; fails with what it said."""
    done = run(*command, given_input=given_input)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*args: object, given_input: str | None = None) -> str:
    """Run kubectl on the cluster of KUBECONFIG."""
    return call(program("kubectl"), *args, given_input=given_input)


def apply(*objects: dict[str, Any]) -> None:
    """Create or replace objects."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given_input=json.dumps(items))


def items(kind: str, namespace: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in a namespace."""
    listed = json.loads(kubectl("get", kind, "-n", namespace, "-o", "json"))
    found: list[dict[str, Any]] = listed["items"]
    return found


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    seconds: float = 180,
    pause_seconds: float = 1,
    told: Callable[[], str] = str,
) -> float:
    """Wait for a condition of the cluster; return after how many seconds it came.

    Where it does not come, fails with its name and what is told then.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"{seconds:g} s were not enough for {what}\n{told()}"
        time.sleep(pause_seconds)
    return time.monotonic() - began


def make_namespace(prefix: str) -> str:
    """Make a namespace that enforces the restricted profile, with the pipeline's ServiceAccount."""
    name = f"{prefix}-{uuid4().hex[:6]}"
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}}
    )
    meta = {"name": RUNNER, "namespace": name}
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    return name


def delete_namespace(name: str) -> None:
    """Delete a namespace and wait for its end; free its volumes where nobody else would."""
    kubectl("delete", "namespace", name, "--timeout=180s")
    for volume in json.loads(kubectl("get", "persistentvolumes", "-o", "json"))["items"]:
        spec, path = volume["spec"], f"persistentvolume/{volume['metadata']['name']}"
        if spec.get("claimRef", {}).get("namespace") != name:
            continue
        if not spec.get("storageClassName"):  # made below
            kubectl("delete", path)
        elif spec["persistentVolumeReclaimPolicy"] == "Retain":
            kubectl("patch", path, "--type=merge", "-p", '{"spec": {"claimRef": null}}')


def image_values() -> dict[str, Any]:
    """Return ``images``: all of one registry and tag, the trainer's only where given."""
    what = "the registry and tag of our images (docs/cluster.md, Tests)"
    tag = given("KINO_TEST_TAG", what)
    control_plane = {"tag": tag}
    trainer = os.environ.get("KINO_TEST_TRAINER_TAG")
    return {
        "registry": given("KINO_TEST_REGISTRY", what),
        "controlPlane": control_plane,
        # Without the trainer's 6 GB, the control plane's image and torch from a volume.
        "trainer": {"tag": trainer}
        if trainer
        else {"tag": tag, "repository": "kinetoscope/control-plane"},
    }


def external_store_values(namespace: str, *, prefix: str) -> dict[str, Any]:
    """Make the Secret of the given S3 endpoint in a namespace; return ``objectStore`` for it."""
    what = "an S3 endpoint that pods can reach (docs/cluster.md, Tests)"
    keys = {
        "accesskey": given("KINO_TEST_S3_ACCESS_KEY", what),
        "secretkey": given("KINO_TEST_S3_SECRET_KEY", what),
    }
    meta = {"name": SECRET, "namespace": namespace}
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys})
    return {
        "endpoint": given("KINO_TEST_S3_ENDPOINT", what),
        "bucket": given("KINO_TEST_S3_BUCKET", what),
        "prefix": prefix,
        "addressing": "path",
        "existingSecret": SECRET,
    }


def dev_store_values() -> dict[str, Any]:
    """Return ``objectStore`` for a MinIO of the release's own, with keys that the chart makes."""
    return {
        "generateCredentials": True,
        "devStore": {
            "enabled": True,
            "command": ["minio", "server", "/data", "--address", ":9000"],
            "args": [],
            "accessKeyEnv": "MINIO_ROOT_USER",
            "secretKeyEnv": "MINIO_ROOT_PASSWORD",
            "healthPath": "/minio/health/ready",
            "persistence": {"size": "1Gi"},
        },
    }


def dev_store_image() -> dict[str, str]:
    """Return ``images.devStore`` of the given MinIO image."""
    image = given("KINO_TEST_S3_IMAGE", "an image with the program minio on its PATH")
    name, _, tag = image.rpartition(":")
    registry, _, repository = name.partition("/")
    return {"registry": registry, "repository": repository, "tag": tag}


def training_values(namespace: str) -> dict[str, Any]:
    """Return ``training`` for a small cluster: little memory, torch from a volume if need be."""
    small: dict[str, Any] = {
        "graceSeconds": 30,
        # Not the default: who assumes that one finds nothing.
        "metricsPort": 9470,
        "shm": {"sizeLimit": "256Mi"},
        "workspace": {"sizeLimit": "1Gi"},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}},
    }
    if os.environ.get("KINO_TEST_TRAINER_TAG"):
        return small
    folder = given(
        "KINO_TEST_SITE_PACKAGES",
        "site-packages with torch on the cluster's node, or KINO_TEST_TRAINER_TAG",
    )
    _make_volume(namespace, folder)
    claim = {"claimName": "site-packages", "readOnly": True}
    mount = {"name": "site-packages", "mountPath": SITE_PACKAGES_PATH, "readOnly": True}
    return small | {
        "extraVolumes": [{"name": "site-packages", "persistentVolumeClaim": claim}],
        "extraVolumeMounts": [mount],
        "extraEnv": [{"name": "PYTHONPATH", "value": SITE_PACKAGES_PATH}],
    }


def _make_volume(namespace: str, folder: str) -> None:
    """Bind a claim to a folder of the node, which only an administrator can: read-only."""
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "20Gi"}
    claim_ref = {"namespace": namespace, "name": "site-packages"}
    apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-site-packages"},
            "spec": common
            | {"capacity": size, "hostPath": {"path": folder}, "claimRef": claim_ref},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "site-packages", "namespace": namespace},
            "spec": common
            | {"resources": {"requests": size}, "volumeName": f"{namespace}-site-packages"},
        },
    )


@dataclass(frozen=True)
class Release:
    """An installed chart."""

    name: str
    namespace: str

    def install(self, values: dict[str, Any], *, wait: bool = True) -> str:
        """Install or upgrade; waits until all pods are ready."""
        waiting = ("--wait", "--wait-for-jobs", "--timeout", _TIMEOUT) if wait else ()
        command = ("upgrade", "--install", self.name, CHART, "-f", "-", *waiting)
        try:
            return self.helm(*command, given_input=values)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_told(self.namespace)}") from None

    def test(self) -> str:
        """Run the chart's tests; returns what their pods printed."""
        return self.helm("test", self.name, "--timeout", _TIMEOUT)

    def uninstall(self) -> None:
        """Uninstall and wait until everything is gone."""
        self.helm("uninstall", self.name, "--wait", "--timeout", _TIMEOUT)

    def helm(self, *args: object, given_input: dict[str, Any] | None = None) -> str:
        """Run helm in the release's namespace."""
        text = None if given_input is None else json.dumps(given_input)
        return call(program("helm"), "-n", self.namespace, *args, given_input=text)

    def doctor(self, *args: str) -> tuple[int, list[dict[str, str]]]:
        """Run ``kino doctor --on cluster --without pipelines``; return exit code and findings."""
        kino = Path(sys.executable).with_name("kino")
        command = [str(kino), "doctor", "--on", "cluster", "--json"]
        command += ["--namespace", self.namespace, "--release", self.name]
        command += ["--without", "pipelines", *args]
        done = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
        assert done.stdout, f"doctor said nothing on stdout, exit {done.returncode}: {done.stderr}"
        return done.returncode, json.loads(done.stdout)


def _told(namespace: str) -> str:
    """Return what a namespace's pods, events and logs say: the reason of a failed installation."""
    program("kubectl")
    pods = run("kubectl", "-n", namespace, "get", "pods,jobs,pvc")
    events = run("kubectl", "-n", namespace, "get", "events", "--field-selector=type=Warning")
    ours = ("-l", "app.kubernetes.io/part-of=kinetoscope", "--all-containers", "--prefix")
    logs = run("kubectl", "-n", namespace, "logs", *ours, "--tail=15")
    return f"{pods.stdout}\n{events.stdout}\n{logs.stdout}{logs.stderr}"
