"""Why a pod does not start, as the API tells it, and what a probe's log says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinetoscope.doctor.cluster.pod_trouble import find_trouble, refusal_hint
from kinetoscope.doctor.cluster.probe_pod import read_findings

ROW = {"check": "object store", "state": "bad", "tried": "t", "found": "f", "hint": "h"}


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    one = {"name": "probe", "image": "ghcr.io/kinetoscope/control-plane:1", "state": state}
    return {"status": {"phase": "Pending", "containerStatuses": [one]}}


CREATING = _waiting("ContainerCreating")
UNSCHEDULED = {
    "status": {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
            }
        ],
    }
}
MOUNT = {"reason": "FailedMount", "message": 'secret "object-store" not found'}


@pytest.mark.parametrize(
    ("pod", "events", "found", "hint"),
    [
        (_waiting("ImagePullBackOff", "Back-off"), [], "control-plane:1", "images.registry"),
        (_waiting("InvalidImageName"), [], "InvalidImageName", "images.registry"),
        (
            _waiting("CreateContainerConfigError", 'secret "mlflow-login" not found'),
            [],
            "mlflow-login",
            "Secret",
        ),
        (CREATING, [MOUNT], 'secret "object-store" not found', "existingSecret"),
        (UNSCHEDULED, [], "Insufficient nvidia.com/gpu", "kubectl describe nodes"),
        (_waiting("RunContainerError", "exec: no python"), [], "no python", "runtime"),
    ],
)
def test_trouble_is_named_with_what_to_do(
    pod: dict[str, Any], events: list[dict[str, str]], found: str, hint: str
) -> None:
    trouble = find_trouble(pod, events)
    assert trouble is not None
    assert found in trouble.found
    assert hint in trouble.hint


@pytest.mark.parametrize(
    ("pod", "events"),
    [
        (CREATING, [{"reason": "Pulling", "message": "Pulling image"}]),
        ({"status": {}}, []),
        ({"status": {"phase": "Running"}}, [MOUNT]),
    ],
)
def test_a_pod_that_is_on_its_way_has_no_trouble(
    pod: dict[str, Any], events: list[dict[str, str]]
) -> None:
    assert find_trouble(pod, events) is None


def test_refusals_are_explained() -> None:
    assert "helm upgrade" in refusal_hint('pods "a" is forbidden: violates PodSecurity "x"')
    assert "ResourceQuota" in refusal_hint("forbidden: exceeded quota: runs, requested: pods=1")
    assert refusal_hint("the server is on fire") == ""


def test_findings_from_inside_are_named_so_and_point_to_the_chart() -> None:
    log = f"bad     object store: f\n{json.dumps([ROW, {**ROW, 'check': 'shm', 'state': 'ok'}])}\n"
    whole, store, shm = read_findings(log, "pod", "3s")
    assert (whole.check, whole.state) == ("probe pod", "ok")
    assert (store.check, store.state) == ("in-cluster object store", "bad")
    assert "objectStore.existingSecret" in store.hint
    assert shm == (("in-cluster shm", "ok", "t", "f", "h"))


@pytest.mark.parametrize("log", ["", "Traceback\nModuleNotFoundError: no module", '[{"a": 1}]'])
def test_a_log_without_findings_is_bad(log: str) -> None:
    (finding,) = read_findings(log, "pod", "3s")
    assert finding.state == "bad"
    assert "images.controlPlane" in finding.hint
