"""Every example and every pairwise combination of values renders to objects that hold our rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_combinations import REFUSED, REFUSED_OTHERWISE, Refusal, pairwise_values
from chart_values import merged, shipped_by
from invariants import violations
from pods import pods_of
from rendering import (
    ALL_APIS,
    CHART,
    KUBE_VERSION,
    MINIMAL,
    ChartRefusedError,
    Object,
    ci_values,
    identity,
    parse,
    render,
)

EXAMPLES = ci_values()
PAIRWISE = pairwise_values()
ALL_VALUES = EXAMPLES | PAIRWISE
LONG_NAME = "a-release-whose-name-is-as-long-as-helm-allows-it-to-be"[:53]


def _without_random_data(objects: tuple[Object, ...]) -> list[Object]:
    """The objects; a generated Secret keeps only its keys."""
    return [
        item | {"data": sorted(item.get("data") or {})} if item["kind"] == "Secret" else item
        for item in objects
    ]


def test_there_are_examples_and_enough_combinations() -> None:
    assert len(EXAMPLES) > 4
    assert len(PAIRWISE) >= 30


@pytest.mark.parametrize("values", ALL_VALUES.values(), ids=ALL_VALUES)
def test_the_objects_hold_every_invariant(values: Mapping[str, Any]) -> None:
    rendering = render(values)
    assert rendering.objects
    assert violations(shipped_by(rendering)) == []


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_rendering_twice_gives_the_same_objects(values: Mapping[str, Any]) -> None:
    first, second = render(values), render(values)
    assert _without_random_data(first.objects) == _without_random_data(second.objects)
    assert first.notes == second.notes


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_names_stay_valid_with_a_long_release_name(values: Mapping[str, Any]) -> None:
    rendering = render(values, release=LONG_NAME)
    assert violations(shipped_by(rendering)) == []
    assert all(LONG_NAME[:20] in name for _, _, name in rendering.names())


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_two_releases_in_one_namespace_share_no_object(values: Mapping[str, Any]) -> None:
    assert not render(values, release="one").names() & render(values, release="two").names()


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_every_object_and_pod_carries_team_project_and_cost(values: Mapping[str, Any]) -> None:
    owner = {"team": "video", "project": "clips", "costCenter": "cc-42"}
    shipped = shipped_by(render(merged(values, {"labels": owner})))
    assert len(shipped.owner_labels) == 3
    assert violations(shipped) == []


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_selectors_do_not_change_with_the_chart_or_the_labels(values: Mapping[str, Any]) -> None:
    changed = merged(values, {"labels": {"team": "other"}, "images": {"registry": "example.org"}})

    def selectors(given: Mapping[str, Any]) -> list[object]:
        return [item["spec"]["selector"] for item in render(given).kind("Deployment")]

    assert selectors(values) == selectors(changed)


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_what_an_uninstall_keeps_is_data(values: Mapping[str, Any]) -> None:
    kept = [
        item["kind"]
        for item in render(values).objects
        if (item["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
    ]
    claims = render(values).kind("PersistentVolumeClaim")
    assert kept.count("PersistentVolumeClaim") == len(claims)
    assert set(kept) <= {"PersistentVolumeClaim", "Secret"}


@pytest.mark.parametrize("values", ALL_VALUES.values(), ids=ALL_VALUES)
def test_hooks_are_cleaned_up(values: Mapping[str, Any]) -> None:
    for item in render(values).objects:
        annotations = item["metadata"].get("annotations") or {}
        if "helm.sh/hook" in annotations:
            policy = annotations.get("helm.sh/hook-delete-policy", "").split(",")
            assert {"before-hook-creation", "hook-succeeded"} <= set(policy), identity(item)


@pytest.mark.parametrize("refusal", [*REFUSED, *REFUSED_OTHERWISE], ids=str)
def test_values_that_cannot_work_are_refused_with_a_sentence(refusal: Refusal) -> None:
    with pytest.raises(ChartRefusedError, match=refusal.message):
        render(refusal.values)


def test_pods_in_run_namespaces_are_checked_too() -> None:
    kinds = {pod.owner["kind"] for pod in pods_of(render(MINIMAL).objects)}
    assert {"Deployment", "TrainingRuntime", "Pod"} <= kinds


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_the_helm_command_renders_the_same(values: Mapping[str, Any], tmp_path: Path) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("no helm on PATH")
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    command = [helm, "template", "kinetoscope", str(CHART), "--namespace", "kinetoscope"]
    command += ["--values", str(file), "--kube-version", KUBE_VERSION]
    command += ["--api-versions", ",".join(ALL_APIS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = {identity(item): item for item in _without_random_data(tuple(parse(done.stdout)))}
    ours = {identity(item): item for item in _without_random_data(render(values).objects)}
    assert theirs == ours
