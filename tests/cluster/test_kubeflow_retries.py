"""Runs on a Kubeflow Pipelines backend that fail, are ended, lose pods, and are tried again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tiny.kubeflow import ENDED, GRACE_SECONDS, STAGE, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.kubeflow, pytest.mark.timeout(3600)]

LONG = 600
"""Training steps that leave time to do something meanwhile."""
LONGER = 3000
"""As many as another run takes to come to the same step, and to be stopped there."""


def test_retry_after_a_failure_a_termination_and_a_stop_ends_with_right_records(
    lab: Lab,
) -> None:
    with lab.missing_video() as manifest:
        failing = lab.submit(2, LONG, videos=manifest)
        assert lab.wait_for_end(failing.job) == "FAILED"
        status = lab.status(failing.run)
        assert (status["state"], status["steps"][0]["state"]) == ("failed", "failed")
        assert "video" in status["reason"]
    run, job = failing.run, failing.job
    lab.retry(job)
    lab.wait_for_steps(run, 60)
    assert lab.status(run)["state"] == "running"

    lab.api("POST", f"runs/{job}:terminate")
    gone = lab.wait_for(lambda: not lab.training_pods(run), "no training pod")
    assert gone <= GRACE_SECONDS + 30
    assert lab.wait_for_end(job) == "FAILED"
    saved = _saved(lab, run)
    assert saved >= 60
    status = lab.status(run)
    assert (status["state"], status["steps"][0]["state"]) == ("stopped", "done")

    lab.retry(job)
    lab.wait_for(lambda: lab.step(run)["attempts"] >= 2, "another attempt")
    lab.wait_for_steps(run, saved + 40)
    lab.kino("stop", run)
    assert lab.training_pods(run) == []
    assert lab.train_jobs(run) == []
    assert lab.wait_for_end(job) in ENDED
    assert lab.status(run)["state"] == "stopped"

    lab.retry(job)
    assert lab.wait_for_end(job) == "SUCCEEDED", lab.told()
    status = lab.status(run)
    assert (status["state"], status["reason"]) == ("succeeded", "")
    assert {step["state"] for step in status["steps"]} == {"done"}
    assert _lost_steps(lab, run) == []
    assert status["steps"][0]["attempts"] <= 2
    assert lab.records(run).num_starts() == 4


def test_pods_of_a_launcher_a_driver_and_a_short_step_may_go(lab: Lab) -> None:
    submitted = lab.submit(3, LONG)
    deleted: dict[str, str] = {}

    def delete_first(kind: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
        for pod in lab.task_pods(submitted.job):
            if kind not in deleted and pod["status"]["phase"] == "Running" and wanted(pod):
                lab.delete_pod(pod["metadata"]["name"])
                deleted[kind] = pod["metadata"]["name"]

    def all_done() -> bool:
        delete_first("step", lambda pod: _stage(pod) == "prepare_data")
        if "step" in deleted:
            delete_first("driver", lambda pod: "driver" in pod["metadata"]["name"])
        if lab.training_pods(submitted.run):
            delete_first("launcher", lambda pod: _stage(pod) == STAGE)
        return len(deleted) == 3 or lab.job_state(submitted.job) in ENDED

    lab.wait_for(all_done, "all three pods")
    assert set(deleted) == {"step", "driver", "launcher"}
    assert lab.wait_for_end(submitted.job) == "SUCCEEDED", lab.told()
    status = lab.status(submitted.run)
    assert status["state"] == "succeeded"
    assert lab.step(submitted.run)["attempts"] == 1, "training went on without its launcher"
    assert lab.train_jobs(submitted.run) == []


def test_two_users_share_the_work_and_a_newer_image_goes_on_with_it(
    lab: Lab, newer_tag: str
) -> None:
    first = lab.submit(4, LONGER)
    lab.wait_for_steps(first.run, 20)
    second = lab.submit(4, LONGER)
    lab.wait_for(
        lambda: "other-run" in lab.step_reason(second.run), "the second run to wait for the first"
    )
    assert lab.records(first.run).step(STAGE).key == lab.records(second.run).step(STAGE).key  # type: ignore[union-attr]
    lab.kino("stop", first.run)
    assert lab.training_pods(first.run) == []
    saved = _saved(lab, first.run)
    lab.wait_for(lambda: bool(lab.training_pods(second.run)), "the second run to go on")
    lab.kino("stop", second.run)
    assert lab.training_pods(second.run) == []
    assert lab.train_jobs(first.run) + lab.train_jobs(second.run) == []
    assert _saved(lab, second.run) >= saved

    lab.install(newer_tag)
    told = json.loads(lab.kino("resume", first.run, "--json"))
    assert told["run"] == first.run
    assert told["kubeflow_run"] != first.job
    assert lab.wait_for_end(told["kubeflow_run"]) == "SUCCEEDED", lab.told()
    status = lab.status(first.run)
    assert status["state"] == "succeeded"
    assert status["steps"][0]["attempts"] == 1, "a finished step stays, whatever is newer"
    assert len(lab.step(first.run)["code_versions"]) == 2
    assert _lost_steps(lab, first.run) == []


def _stage(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"].get("kinetoscope.dev/stage", ""))


def _history(lab: Lab, run: str) -> list[dict[str, Any]]:
    row = json.loads(lab.kino("show", run, "--step", STAGE, "--history", "--json"))
    told: list[dict[str, Any]] = row["history"]
    return told


def _saved(lab: Lab, run: str) -> int:
    """Return the newest step of which there is a checkpoint."""
    kept = [e["details"]["step"] for e in _history(lab, run) if e["kind"] == "checkpoint"]
    return max(kept, default=0)


def _lost_steps(lab: Lab, run: str) -> list[str]:
    """Return where an attempt began with less than had been saved."""
    lost, newest = [], ""
    for entry in _history(lab, run):
        if entry["kind"] == "checkpoint":
            newest = entry["details"]["prefix"]
        if entry["kind"] == "attempt" and (entry["details"]["checkpoint"] or "") != newest:
            lost.append(entry["text"])
    return lost
