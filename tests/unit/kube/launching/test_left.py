"""Training jobs that are left when their pipeline has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny.kube_api import TRAIN_JOB, TRAIN_JOBS, Api, status, train_job

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.suspension import read_suspension
from kinetoscope.kube.launching.left import suspend_left
from kinetoscope.kube.launching.others import Claim

CLAIM = Claim("rabc2345", 2)
LAUNCHED_FOR = "kinetoscope.dev/launched-for"


def _has(api: Api, launched_for: str, **changes: Any) -> None:
    job = train_job(**changes)
    job["metadata"]["annotations"] = {LAUNCHED_FOR: launched_for}
    job["metadata"] |= {"namespace": "runs", "resourceVersion": "7"}
    api.lists(TRAIN_JOBS, job)
    api.has(TRAIN_JOB, job)
    api.has(TRAIN_JOB, job, method="PATCH")


def _leave(cluster: Cluster) -> None:
    suspend_left(cluster, CLAIM, "the end of the run", "its pipeline has ended")


def test_a_job_that_nobody_looks_after_is_suspended_as_it_was_seen(
    api: Api, cluster: Cluster
) -> None:
    _has(api, "rabc2345/2")
    _leave(cluster)
    (request,) = api.sent("PATCH")
    patch = json.loads(request.body)
    assert patch["spec"] == {"suspend": True}
    assert patch["metadata"]["resourceVersion"] == "7"
    note = read_suspension(patch)
    assert note is not None
    assert (note.kind, note.by) == ("stop", "the end of the run")
    assert [r.query for r in api.sent("GET") if r.path == TRAIN_JOBS] == [
        "labelSelector=kinetoscope.dev%2Frun%3Drabc2345"
    ]


@pytest.mark.parametrize("launched_for", ["rabc2345/1", "rabc2345/3", "rother22/2", ""])
def test_a_job_of_another_start_or_run_stays(api: Api, cluster: Cluster, launched_for: str) -> None:
    _has(api, launched_for)
    _leave(cluster)
    assert api.sent("PATCH") == []


@pytest.mark.parametrize("kind", ["Complete", "Failed", "suspended", "leaving"])
def test_a_job_that_is_over_or_going_stays(api: Api, cluster: Cluster, kind: str) -> None:
    _has(api, "rabc2345/2")
    job = api.answers["GET", TRAIN_JOB]()[1]
    if kind == "suspended":
        job["spec"]["suspend"] = True
    elif kind == "leaving":
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    else:
        job["status"] = {"conditions": [{"type": kind, "status": "True"}]}
    _leave(cluster)
    assert api.sent("PATCH") == []


def test_an_api_that_refuses_ends_nothing(
    api: Api, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers["GET", TRAIN_JOBS] = lambda: status(403, "Forbidden", "may not list")
    _leave(cluster)
    assert "stay as they are" in caplog.text
