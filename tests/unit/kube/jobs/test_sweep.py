"""What launchers have left is deleted, and nothing else."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from tiny.kube_api import JOB, RUNTIMES, TRAIN_JOBS, Api, ago, status, train_job

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import submit

OLD, YOUNG = {"minutes": 61}, {"minutes": 59}


def ended(name: str, kind: str, age: dict[str, int], **metadata: Any) -> dict[str, Any]:
    job = train_job(kind, name=name, **metadata)
    job["status"]["conditions"][0]["lastTransitionTime"] = ago(**age)
    return job


def stopped(name: str, *, suspend: bool = True, **note: Any) -> dict[str, Any]:
    text = json.dumps({"by": "ada", "why": "kino stop", **note})
    job = train_job(name=name, annotations={"kinetoscope.dev/suspended": text})
    job["spec"]["suspend"] = suspend
    return job


def deleted(api: Api, cluster: Cluster, *jobs: dict[str, Any]) -> list[str]:
    """Names of the jobs that a launcher deletes before it makes its own."""
    api.lists(TRAIN_JOBS, *jobs)
    submit(cluster, JOB)
    paths = [request.path for request in api.sent("DELETE")]
    assert all(path.startswith(TRAIN_JOBS) for path in paths)
    return [path.removeprefix(f"{TRAIN_JOBS}/") for path in paths]


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_jobs_that_ended_an_hour_ago_are_deleted(empty: Api, cluster: Cluster, kind: str) -> None:
    jobs = [ended("old", kind, OLD), ended("young", kind, YOUNG), train_job(name="lives")]
    assert deleted(empty, cluster, *jobs) == ["old"]


def test_a_job_that_is_not_of_a_run_of_ours_stays(empty: Api, cluster: Cluster) -> None:
    labels: list[dict[str, str] | None] = [None, {}, {"app.kubernetes.io/name": "kinetoscope"}]
    jobs = [ended("old", "Complete", OLD, labels=one) for one in labels]
    assert deleted(empty, cluster, *jobs) == []


def test_jobs_that_were_stopped_an_hour_ago_are_deleted(empty: Api, cluster: Cluster) -> None:
    now = time.time()
    jobs = [
        stopped("old", at=now - 3660),
        stopped("young", at=now - 3540),
        stopped("resumed", at=now - 3660, suspend=False),
        stopped("unknown"),
        stopped("gang", kind="gang", at=now - 7200, until=now - 3660),
        stopped("waits", kind="gang", at=now - 7200, until=now - 60),
    ]
    assert deleted(empty, cluster, *jobs) == ["old", "gang"]


def test_the_clock_of_the_cluster_counts(
    empty: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 36_000)  # of this launcher
    young, old = stopped("young", at=now - 36_000), stopped("old", at=now + 36_000)
    for job, age in ((young, YOUNG), (old, OLD)):
        seen = {"type": "Suspended", "status": "True", "lastTransitionTime": ago(**age)}
        job["status"]["conditions"] = [seen]
    assert deleted(empty, cluster, young, old) == ["old"]


def test_a_job_that_somebody_goes_on_with_just_now_stays(empty: Api, cluster: Cluster) -> None:
    job = stopped("old", at=time.time() - 3660)
    job["metadata"]["resourceVersion"] = "7"
    assert deleted(empty, cluster, job) == ["old"]
    (sent,) = empty.sent("DELETE")
    assert json.loads(sent.body)["preconditions"] == {"uid": "u", "resourceVersion": "7"}


def test_a_job_that_somebody_else_suspended_stays(empty: Api, cluster: Cluster) -> None:
    job = train_job(name="paused", creationTimestamp=ago(days=3))
    job["spec"]["suspend"] = True
    assert deleted(empty, cluster, job) == []


def test_old_runtimes_of_jobs_that_are_gone_are_swept(empty: Api, cluster: Cluster) -> None:
    ages = {"old": 3600, "used": 3600, "young": 60}
    runtimes = [
        {"metadata": {"name": name, "creationTimestamp": ago(seconds=age)}}
        for name, age in ages.items()
    ]
    empty.lists(RUNTIMES, *runtimes)
    empty.lists(TRAIN_JOBS, train_job(name="used"))
    submit(cluster, JOB)
    assert [request.path for request in empty.sent("DELETE")] == [f"{RUNTIMES}/old"]
    (asked,) = [request.query for request in empty.sent("GET") if request.path == RUNTIMES]
    assert asked == "labelSelector=kinetoscope.dev%2Frun"


def test_what_can_not_be_swept_stops_no_launcher(
    empty: Api, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    empty.answers["GET", TRAIN_JOBS] = lambda: status(403, "Forbidden", "cannot list")
    with caplog.at_level(logging.WARNING):
        assert not submit(cluster, JOB).adopted
    assert "could not sweep old training jobs" in caplog.text
