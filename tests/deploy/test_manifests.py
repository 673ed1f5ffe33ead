"""manifests/: generated from the chart, equal to it, and under the same rules."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from from_chart import MANIFESTS, component_names, generate, generated_files, objects_for
from invariants import Shipped, violations
from rendering import ROOT, Object, identity, parse

OVERLAYS = sorted(path.parent for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))
EXTERNAL = frozenset({"kinetoscope-object-store", "pipeline-runner"})
NAMESPACE = "kubeflow"
KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="no kubectl on PATH")


def _build(folder: Path) -> list[Object]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(folder)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return parse(done.stdout)


def _composed(folder: Path, components: Sequence[str]) -> list[Object]:
    """Base with some components, as an overlay in another folder would have them."""
    manifests = os.path.relpath(MANIFESTS, folder)
    kustomization = {
        "resources": [f"{manifests}/base"],
        "components": [f"{manifests}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return _build(folder)


def _shipped(objects: Sequence[Object]) -> Shipped:
    return Shipped(objects, EXTERNAL, [NAMESPACE], {})


def _parsed(item: Object) -> Object:
    """With the objects inside a ConfigMap parsed: their text may be laid out differently."""
    data = {
        key: yaml.safe_load(text) if key.endswith((".yaml", ".json")) else text
        for key, text in (item.get("data") or {}).items()
    }
    return item | {"data": data}


def test_the_generated_files_are_those_that_the_chart_gives() -> None:
    """After a change of the chart: make manifests."""
    wanted = generate()
    there = {path: path.read_text() for path in generated_files()}
    assert sorted(there) == sorted(wanted)
    assert [path.name for path, text in wanted.items() if there[path] != text] == []


def test_nothing_of_helm_and_no_secret_is_in_the_manifests() -> None:
    for path in MANIFESTS.rglob("*.yaml"):
        text = path.read_text()
        assert "helm.sh/" not in text, path
        assert "managed-by: Helm" not in text, path
        assert "kind: Secret\n" not in text, path


@needs_kubectl
@pytest.mark.parametrize("components", [[], component_names()], ids=["base", "all components"])
def test_kustomize_builds_what_the_chart_renders(components: list[str], tmp_path: Path) -> None:
    built = {(o["kind"], o["metadata"]["name"]): o for o in _composed(tmp_path, components)}
    wanted = objects_for(components)
    assert sorted(built) == sorted(wanted)
    for key, item in wanted.items():
        assert _parsed(built[key]) == _parsed(item)


@needs_kubectl
@pytest.mark.parametrize("name", component_names())
def test_a_component_works_alone_and_adds_something(name: str, tmp_path: Path) -> None:
    base, built = _composed(tmp_path, []), _composed(tmp_path, [name])
    assert built != base
    assert {identity(item) for item in base} <= {identity(item) for item in built}


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_holds_every_invariant(overlay: Path) -> None:
    assert violations(_shipped(_build(overlay))) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_has_the_kinds_and_names_of_the_chart(overlay: Path) -> None:
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    components = [Path(name).name for name in kustomization["components"]]
    built = _build(overlay)
    named = {(item["kind"], item["metadata"]["name"]) for item in built}
    of_store = {("NetworkPolicy", "kinetoscope-s3")} & named
    assert named == set(objects_for(components)) | of_store
    assert {item["metadata"].get("namespace") for item in built} <= {NAMESPACE, None}


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_namespace_is_named_in_one_place(overlay: Path, tmp_path: Path) -> None:
    copy = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / overlay.relative_to(MANIFESTS) / "kustomization.yaml"
    text = file.read_text().replace("\nnamespace: kubeflow\n", "\nnamespace: team-a\n")
    file.write_text(text)
    for item in _build(file.parent):
        assert "kubeflow" not in str(_places(item)), identity(item)


def _places(value: Any) -> list[str]:
    """Every namespace and host name in an object."""
    if isinstance(value, dict):
        found = [str(inner) for key, inner in value.items() if key == "namespace"]
        return found + [place for inner in value.values() for place in _places(inner)]
    if isinstance(value, list):
        return [place for inner in value for place in _places(inner)]
    return [value] if isinstance(value, str) and ".svc" in value else []


def test_overlays_are_small() -> None:
    """An overlay says what differs; what many need is a component."""
    assert [path.name for path in OVERLAYS] == ["dev", "gpu"]
    for overlay in OVERLAYS:
        assert len((overlay / "kustomization.yaml").read_text().splitlines()) <= 60


def test_make_writes_the_manifests() -> None:
    assert "manifests/from_chart.py" in (ROOT / "Makefile").read_text()
