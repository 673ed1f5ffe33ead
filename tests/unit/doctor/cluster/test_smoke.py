"""What the doctor concludes from the smoke job's course and reports."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.smoke import Course, judge_course, judge_reports
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation, PodState, Reason

METRICS = Finding("metrics target", "ok", "tried", "kino_train_steps_total 3")
FAILED_POD = PodState("smoke-node-0-0", "u", 0, 0, "Failed", False, 2, "Error", "bad weights")


def _job(**changes: Any) -> TrainingJob:
    pod = PodConfig(gpus=0)
    values = {"name": "smoke", "namespace": "runs", "run": "smoke", "stage": "smoke", "pod": pod}
    return TrainingJob(**{**values, "command": ["true"], "num_nodes": 2, **changes})


def _report(rank: int, **changes: Any) -> dict[str, Any]:
    return {
        "rank": rank,
        "world_size": 2,
        "device": "cpu",
        "steps": 3,
        "seconds_per_step": [0.5, 0.1, 0.2],
        "weights_digest": "sha256:00",
        "shm_bytes": 512 << 20,
        "checkpoint": {"written": True, "bytes": 2048} if rank == 0 else None,
        "torch": "2.15.0",
        **changes,
    }


def _states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def test_equal_weights_a_checkpoint_and_shared_memory_are_fine() -> None:
    findings = judge_reports([_report(0), _report(1)], _job(), "tried", "40s")
    assert _states(findings) == {
        "training": "ok",
        "training checkpoint": "ok",
        "training shm": "ok",
    }
    assert "2 ranks agree after 3 steps, 0.100 s per step on cpu; 40s" in findings[0].found


@pytest.mark.parametrize(
    ("reports", "check", "state"),
    [
        ([_report(0)], "training", "bad"),
        ([_report(0), _report(1, weights_digest="sha256:01")], "training", "bad"),
        ([_report(0, checkpoint=None), _report(1)], "training checkpoint", "bad"),
        ([_report(0, shm_bytes=64 << 20), _report(1)], "training shm", "bad"),
    ],
)
def test_what_a_run_would_lack_is_bad(
    reports: list[dict[str, Any]], check: str, state: str
) -> None:
    findings = judge_reports(reports, _job(), "tried", "40s")
    assert _states(findings)[check] == state
    assert next(f for f in findings if f.check == check).hint


def test_a_gpu_that_torch_does_not_use_is_poor() -> None:
    job = _job(pod=PodConfig(gpus=1))
    reports = [_report(0), _report(1)]
    assert _states(judge_reports(reports, job, "tried", "40s"))["gpu in pods"] == "poor"
    reports = [_report(0, device="cuda:0"), _report(1)]
    assert _states(judge_reports(reports, job, "tried", "40s"))["gpu in pods"] == "ok"


def test_a_job_that_is_stuck_tells_why_and_what_to_do() -> None:
    reason = Reason("unschedulable", "pod smoke-node-0-0", "Insufficient nvidia.com/gpu")
    course = Course(last=Observation("pending", reasons=(reason,)), stuck=True)
    (finding,) = judge_course(course, _job(), "tried", "60s")
    assert finding.state == "bad"
    assert "is stuck: unschedulable: pod smoke-node-0-0: Insufficient" in finding.found
    assert finding.hint == reason.hint


def test_a_job_that_failed_tells_its_pod_s_last_words_and_its_metrics() -> None:
    course = Course(last=Observation("failed", failures=(FAILED_POD,)), metrics=METRICS)
    finding, metrics = judge_course(course, _job(), "tried", "60s")
    assert "exit code 2" in finding.found
    assert "bad weights" in finding.found
    assert metrics == METRICS


def test_metrics_that_were_never_seen_are_poor() -> None:
    course = Course(last=Observation("succeeded"), reports=[_report(0), _report(1)])
    assert _states(judge_course(course, _job(), "tried", "9s"))["metrics target"] == "poor"
