"""Suspending and resuming, of jobs of our own and of jobs that a queue starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny.kube_api import JOB, TRAIN_JOB, WORKLOADS, Api, status, train_job

from kinetoscope.kube import api_errors
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import Suspension, resume, suspend
from kinetoscope.kube.jobs.suspension import read_suspension

NOTE = Suspension(
    by="launcher of run r1, start 1", why="half a gang", kind="gang", at=5.0, until=9.0
)
SUSPENDED = "kinetoscope.dev/suspended"


@pytest.fixture
def kept(api: Api) -> Api:
    """A job that keeps what is patched."""
    job = train_job(labels={})

    def patch() -> tuple[int, dict[str, Any]]:
        change = json.loads(api.requests[-1].body)
        annotations = {**job["metadata"]["annotations"], **change["metadata"]["annotations"]}
        job["metadata"]["annotations"] = {k: v for k, v in annotations.items() if v is not None}
        job["spec"] |= change.get("spec", {})
        return 200, job

    api.has(TRAIN_JOB, job)
    api.answers["PATCH", TRAIN_JOB] = patch
    return api


def _job(api: Api) -> dict[str, Any]:
    return api.answers["GET", TRAIN_JOB]()[1]


def test_a_note_is_read_back_and_gone_after_the_resume(kept: Api, cluster: Cluster) -> None:
    suspend(cluster, JOB, NOTE)
    assert _job(kept)["spec"]["suspend"] is True
    assert read_suspension(_job(kept)) == NOTE
    resume(cluster, JOB)
    assert _job(kept)["spec"]["suspend"] is False
    assert read_suspension(_job(kept)) is None
    assert len(kept.sent("PATCH")) == 2, "the note comes with the suspension, never after it"


def _queued(api: Api) -> None:
    job = _job(api)
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    job["spec"]["suspend"] = True
    api.lists(WORKLOADS, {"metadata": {"name": "trainjob-train-1a2b3"}})
    api.has(f"{WORKLOADS}/trainjob-train-1a2b3", {}, method="PATCH")


def test_a_job_of_a_queue_is_stopped_by_its_workload_and_never_unsuspended_by_us(
    kept: Api, cluster: Cluster
) -> None:
    _queued(kept)
    suspend(cluster, JOB, NOTE)
    assert read_suspension(_job(kept)) == NOTE
    resume(cluster, JOB)
    assert read_suspension(_job(kept)) is None
    assert [json.loads(r.body) for r in kept.sent("PATCH") if r.path.startswith(WORKLOADS)] == [
        {"spec": {"active": False}},
        {"spec": {"active": True}},
    ]
    assert not any("suspend" in json.loads(r.body).get("spec", {}) for r in kept.sent("PATCH"))
    (query,) = {r.query for r in kept.sent("GET") if r.path == WORKLOADS}
    assert query == "labelSelector=kueue.x-k8s.io%2Fjob-uid%3Du"


def test_a_webhook_that_is_away_is_asked_again(kept: Api, cluster: Cluster) -> None:
    then = kept.answers["PATCH", TRAIN_JOB]
    answers = iter([lambda: status(500, "InternalError", "failed calling webhook"), then])
    kept.answers["PATCH", TRAIN_JOB] = lambda: next(answers)()
    resume(cluster, JOB)
    (first, again) = kept.sent("PATCH")
    assert first == again
    assert first.content_type == "application/merge-patch+json"


def test_a_job_that_is_gone_can_not_be_suspended(api: Api, cluster: Cluster) -> None:
    with pytest.raises(api_errors.AbsentError):
        suspend(cluster, JOB, NOTE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        "[1]",
        '{"by": "a"}',
        '{"by": 1, "why": "b"}',
        '{"by": "a", "why": "b", "at": "x"}',
        '{"by": "a", "why": "b", "at": 1e999}',
        '{"by": "a", "why": "b", "until": NaN}',
    ],
)
def test_a_note_that_nobody_can_read_is_none(text: str) -> None:
    assert read_suspension(train_job(annotations={SUSPENDED: text})) is None


def test_a_note_of_a_later_version_is_read() -> None:
    text = '{"by": "a", "why": "b", "new": 1}'
    assert read_suspension(train_job(annotations={SUSPENDED: text})) == Suspension("a", "b")
