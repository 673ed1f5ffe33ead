"""What the doctor concludes from versions and Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.doctor.cluster import versions
from kinetoscope.doctor.cluster.control_plane import judge_controller


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("v1.34.4", (1, 34)),
        ("1.31", (1, 31)),
        ("v1.32.1-gke.100", (1, 32)),
        ("2.3.0-rc.1", (2, 3)),
        ("kubeflow-trainer-2.3.0", (2, 3)),
        ("dev", None),
        ("sha-1f2e3d4", None),
        ("", None),
    ],
)
def test_versions_are_read(text: str, number: tuple[int, int] | None) -> None:
    assert versions.parse(text) == number


@pytest.mark.parametrize(
    ("number", "verdict"),
    [((2, 2), "old"), ((2, 3), "fits"), ((2, 4), "new"), ((3, 0), "new"), ((1, 9), "old")],
)
def test_versions_are_compared_as_numbers(number: tuple[int, int], verdict: str) -> None:
    assert versions.judge(number, versions.TRAINER) == verdict
    assert versions.judge((1, 100), versions.KUBERNETES) == "fits"


def _deployment(image: str, ready: int | None = 1) -> dict[str, Any]:
    status = {} if ready is None else {"readyReplicas": ready}
    return {
        "metadata": {"namespace": "system", "name": "trainer"},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        "status": status,
    }


@pytest.mark.parametrize(
    ("deployments", "state", "found"),
    [
        ([_deployment("ghcr.io:443/x/trainer:v2.3.0")], "ok", "v2.3.0"),
        ([_deployment("ghcr.io/x/trainer:v2.2.1@sha256:00")], "poor", "v2.2.1 is not among"),
        ([_deployment("ghcr.io/x/trainer:v2.4.0")], "poor", "v2.4.0 is not among"),
        ([_deployment("localhost:5000/trainer:dev")], "ok", "tells no version"),
        ([_deployment("ghcr.io/x/trainer:v2.3.0", None)], "bad", "system/trainer has no ready"),
        ([], "poor", "no Deployment"),
        (None, "ok", "may not be read"),
    ],
)
def test_a_controller_is_judged(
    deployments: list[dict[str, Any]] | None, state: str, found: str
) -> None:
    finding = judge_controller("trainer", versions.TRAINER, "tried", deployments)
    assert finding.state == state
    assert found in finding.found
    assert bool(finding.hint) == (state != "ok")
