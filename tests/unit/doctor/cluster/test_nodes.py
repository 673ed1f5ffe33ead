"""What the doctor concludes from nodes, taints, GPUs and StorageClasses."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.doctor.cluster.nodes import (
    gpu_nodes,
    judge_gpus,
    judge_nodes,
    judge_storage,
    tolerates,
)

TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def _node(
    name: str,
    *,
    gpus: int = 0,
    taints: list[dict[str, Any]] | None = None,
    cordoned: bool = False,
    **conditions: str,
) -> dict[str, Any]:
    found = {"Ready": "True", "DiskPressure": "False", **conditions}
    return {
        "metadata": {"name": name},
        "spec": {"taints": taints, "unschedulable": cordoned},
        "status": {
            "allocatable": {"cpu": "2"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {}),
            "conditions": [{"type": kind, "status": status} for kind, status in found.items()],
        },
    }


@pytest.mark.parametrize(
    ("toleration", "matches"),
    [
        (TOLERATION, True),
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "absent"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "nvidia.com/gpu"}, False),
    ],
)
def test_tolerations_match_as_the_scheduler_s_do(toleration: dict[str, Any], matches: bool) -> None:
    assert tolerates(TAINT, [toleration]) is matches


@pytest.mark.parametrize(
    ("nodes", "state", "found"),
    [
        ([_node("a"), _node("b")], "ok", "2 of 2"),
        ([_node("a"), _node("b", Ready="Unknown")], "poor", "b: NotReady"),
        ([_node("a"), _node("b", DiskPressure="True")], "poor", "b: DiskPressure"),
        ([_node("a"), _node("b", cordoned=True)], "poor", "b: cordoned"),
        ([_node("a"), _node("b", taints=[TAINT])], "poor", "b has taint nvidia.com/gpu=present"),
        ([_node("a", taints=[TAINT])], "bad", "all are tainted"),
        ([_node("a", taints=[{**TAINT, "effect": "PreferNoSchedule"}])], "ok", "1 of 1"),
        ([_node("a", Ready="False")], "bad", "a: NotReady"),
        ([], "bad", "no node"),
    ],
)
def test_nodes_are_judged(nodes: list[dict[str, Any]], state: str, found: str) -> None:
    finding = judge_nodes(nodes, [])
    assert finding.state == state
    assert found in finding.found
    assert bool(finding.hint) == (state != "ok")


def test_tolerated_taints_are_fine() -> None:
    nodes = [_node("a", gpus=8, taints=[TAINT])]
    assert judge_nodes(nodes, [TOLERATION]).state == "ok"
    assert judge_gpus(nodes, [TOLERATION]).state == "ok"
    assert judge_gpus(nodes, []).state == "bad"
    assert "training.tolerations" in judge_gpus(nodes, []).hint


def test_gpus_are_summed_up_over_nodes_that_are_ready() -> None:
    nodes = [_node("a", gpus=8), _node("b", gpus=4, Ready="False"), _node("c"), _node("d", gpus=2)]
    assert [node["metadata"]["name"] for node in gpu_nodes(nodes)] == ["a", "d"]
    assert "10 GPUs on 2 nodes" in judge_gpus(nodes, []).found
    without = judge_gpus([_node("c")], [])
    assert without.state == "bad"
    assert "--without gpu" in without.hint


@pytest.mark.parametrize(
    ("annotations", "state"),
    [
        ({"storageclass.kubernetes.io/is-default-class": "true"}, "ok"),
        ({"storageclass.kubernetes.io/is-default-class": "false"}, "poor"),
        (None, "poor"),
    ],
)
def test_a_default_storage_class_is_looked_for(
    annotations: dict[str, str] | None, state: str
) -> None:
    classes = [{"metadata": {"name": "fast", "annotations": annotations}}]
    assert judge_storage(classes, "tried").state == state
    assert judge_storage([], "tried").state == "poor"
