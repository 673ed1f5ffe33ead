"""Install, test, upgrade and uninstall the chart and the manifests on a real cluster."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import installed
import pytest
import yaml
from chart_values import merged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installed import Release

# What a namespace holds that nobody installed.
_GIVEN = {"kube-root-ca.crt", "default", installed.RUNNER}
_KINDS = (
    "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,"
    "resourcequotas,limitranges,podmonitors,prometheusrules,trainingruntimes,trainjobs,persistentvolumeclaims"
)


@pytest.fixture
def own_namespace(cluster: object) -> Iterator[str]:
    name = installed.make_namespace("kino-install")
    yield name
    installed.delete_namespace(name)


def test_a_release_in_a_restricted_namespace_is_ready_and_passes_its_tests(
    release: Release,
) -> None:
    pods = installed.items("pods", release.namespace)
    assert pods
    for pod in pods:
        ready = [c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready"]
        assert ready == ["True"] or pod["status"]["phase"] == "Succeeded", pod["metadata"]["name"]
    assert "Succeeded" in release.test()


def test_the_doctor_is_green_on_an_installed_release(release: Release) -> None:
    code, findings = release.doctor()
    assert (code, [f for f in findings if f["state"] == "bad"]) == (0, [])
    assert {f["state"] for f in findings if f["check"].startswith("training")} == {"ok"}


def test_an_upgrade_keeps_secrets_and_data_and_an_uninstall_leaves_only_volumes(
    own_namespace: str,
) -> None:
    values = _dev_store_release(own_namespace)
    release = installed.Release("kinetoscope", own_namespace)
    release.install(values)
    secret = _secrets(own_namespace)
    experiment = _make_experiment(release)
    release.install(values | {"labels": {"team": "video", "project": "", "costCenter": "42"}})
    assert _secrets(own_namespace) == secret
    assert _find_experiment(release, experiment)
    labelled = installed.items("deployments", own_namespace)
    assert {d["metadata"]["labels"]["kinetoscope.dev/team"] for d in labelled} == {"video"}

    release.uninstall()
    installed.wait_until(
        lambda: {o["kind"] for o in _left(own_namespace)} == {"PersistentVolumeClaim"},
        "an uninstalled release to leave its volumes and nothing else",
    )
    release.install(values)
    assert _find_experiment(release, experiment), "the data came back with the volume"
    release.uninstall()


def test_the_development_overlay_gives_the_same(own_namespace: str, tmp_path: Path) -> None:
    overlay = _overlay(own_namespace, tmp_path)
    keys = [f"--from-literal={name}={uuid4().hex}" for name in ("accesskey", "secretkey")]
    secret = ("secret", "generic", "kinetoscope-object-store", "-n", own_namespace)
    installed.kubectl("create", *secret, *keys)
    installed.kubectl("apply", "-k", overlay)
    _wait_ready(own_namespace)
    left_out = ("--without", "training", "--without", "monitoring")
    code, findings = installed.Release("kinetoscope", own_namespace).doctor(*left_out)
    assert (code, [f for f in findings if f["state"] == "bad"]) == (0, [])
    installed.kubectl("delete", "-k", overlay, "--timeout=120s")


def _overlay(namespace: str, folder: Path) -> Path:
    """Make manifests with the given images, in the way that docs/cluster.md shows."""
    for name in ("charts", "manifests", "tests/deploy"):
        shutil.copytree(installed.ROOT / name, folder / name)
    manifests = folder / "manifests"
    _add_values(manifests / "values.yaml", {"images": installed.image_values()})
    store = {
        "images": {"devStore": installed.dev_store_image()},
        "objectStore": installed.dev_store_values() | {"generateCredentials": False},
    }
    _add_values(manifests / "components" / "dev-store" / "values.yaml", store)
    path = f"PYTHONPATH={folder / 'tests' / 'deploy'}"
    installed.call("env", path, sys.executable, manifests / "from_chart.py")
    overlay = manifests / "overlays" / "dev"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("namespace: kubeflow", f"namespace: {namespace}"))
    return overlay


def _add_values(file: Path, values: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(merged(yaml.safe_load(file.read_text()), values)))


def _dev_store_release(namespace: str) -> dict[str, Any]:
    images = installed.image_values() | {"devStore": installed.dev_store_image()}
    return {
        "images": images,
        "runNamespaces": [{"name": namespace, "serviceAccount": installed.RUNNER}],
        "objectStore": installed.dev_store_values(),
        "mlflow": {"persistence": {"size": "1Gi"}},
    }


def _secrets(namespace: str) -> dict[str, Any]:
    found = installed.items("secrets", namespace)
    ours = {s["metadata"]["name"]: s["data"] for s in found if s["type"] == "Opaque"}
    assert ours
    for data in ours.values():
        assert all(len(base64.b64decode(value)) >= 16 for value in data.values())
    return ours


def _left(namespace: str) -> list[dict[str, Any]]:
    found = installed.items(_KINDS, namespace)
    return [o for o in found if o["metadata"]["name"] not in _GIVEN and o["kind"] != "Event"]


_CLIENT = """
import json, sys, urllib.request
def call(path, body):
    request = urllib.request.Request("http://127.0.0.1:5000/api/2.0/mlflow/" + path,
        data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))
"""


def _in_server(release: Release, program: str) -> str:
    """Run Python inside MLflow's pod, where its server is at 127.0.0.1."""
    return installed.kubectl(
        "-n", release.namespace, "exec", "deploy/kinetoscope-mlflow", "--", "python", "-c", program
    )


def _make_experiment(release: Release) -> str:
    name = f"kept-{uuid4().hex[:6]}"
    _in_server(release, f"{_CLIENT}call('experiments/create', {{'name': '{name}'}})")
    return name


def _find_experiment(release: Release, name: str) -> bool:
    program = f"{_CLIENT}print(json.dumps(call('experiments/search', {{'max_results': 50}})))"
    found = json.loads(_in_server(release, program))
    return name in {experiment["name"] for experiment in found["experiments"]}


def _wait_ready(namespace: str) -> None:
    def ready() -> bool:
        deployments = installed.items("deployments", namespace)
        available = [d["status"].get("availableReplicas", 0) for d in deployments]
        return bool(available) and all(available)

    installed.wait_until(ready, "all Deployments to be available", seconds=300)
