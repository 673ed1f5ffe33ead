"""Which events and notes count as why a job does not run, and for how long."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tiny.kube_api import EVENTS, JOB, PODS, TRAIN_JOB, Api, ago, container, pod, train_job

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import observe

TWO = replace(JOB, num_nodes=2)
QUOTA = 'pods "x" is forbidden: exceeded quota: runs'
PENDING = {"phase": "Pending"}
CREATING = {**PENDING, **container(waiting={"reason": "ContainerCreating"})}


def event(
    message: str = QUOTA,
    *,
    reason: str = "FailedCreate",
    about: str = "Job/train-node-0",
    **times: Any,
) -> dict[str, Any]:
    kind, _, name = about.partition("/")
    times = times or {"lastTimestamp": ago(seconds=5)}
    return {
        "metadata": {"name": "e"},
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": kind, "name": name},
        **times,
    }


def kinds(api: Api, cluster: Cluster, *events: dict[str, Any]) -> list[str]:
    """Kinds of the reasons of a job of two nodes."""
    api.lists(EVENTS, *events)
    if ("GET", TRAIN_JOB) not in api.answers:
        api.has(TRAIN_JOB, train_job())
    if ("GET", PODS) not in api.answers:
        api.lists(PODS)
    return [reason.kind for reason in observe(cluster, TWO).reasons]


def test_a_pod_that_a_quota_does_not_let_in_is_why(api: Api, cluster: Cluster) -> None:
    api.lists(PODS, pod(0))
    assert kinds(api, cluster, event(), event()) == ["quota"], "told once"


def test_a_quota_is_no_reason_any_more_once_all_pods_are_there(api: Api, cluster: Cluster) -> None:
    api.lists(PODS, pod(0), pod(1, **CREATING))
    assert kinds(api, cluster, event()) == []


def test_an_old_event_is_no_reason(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job(creationTimestamp=ago(hours=3)))
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=25))) == []
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=15))) == ["quota"]


def test_events_of_an_earlier_job_of_this_name_are_no_reason(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job(creationTimestamp=ago(minutes=5)))
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=6))) == []
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=4))) == ["quota"]


def test_what_was_before_a_resume_is_no_reason(api: Api, cluster: Cluster) -> None:
    job = train_job()
    resumed = {"type": "Suspended", "status": "False", "lastTransitionTime": ago(minutes=2)}
    job["status"]["conditions"].append(resumed)
    api.has(TRAIN_JOB, job)
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=3))) == []
    assert kinds(api, cluster, event(lastTimestamp=ago(minutes=1))) == ["quota"]


def test_an_event_counts_from_when_it_was_seen_last(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job(creationTimestamp=ago(hours=3)))
    newer = event(lastTimestamp=None, eventTime=ago(minutes=2))
    assert kinds(api, cluster, newer) == ["quota"]
    repeated = event(eventTime=ago(minutes=50), series={"lastObservedTime": ago(minutes=2)})
    assert kinds(api, cluster, repeated) == ["quota"]


def test_only_what_is_said_of_the_job_s_own_objects_counts(api: Api, cluster: Cluster) -> None:
    others = ("Job/train-2-node-0", "Job/trainer", "TrainJob/other")
    assert kinds(api, cluster, *(event(about=about) for about in others)) == []
    assert kinds(api, cluster, event(about="JobSet/train"), event(about="TrainJob/train")) == [
        "quota",
        "quota",
    ]


def test_an_event_of_a_pod_counts_while_the_pod_waits(api: Api, cluster: Cluster) -> None:
    told = event("no secret", reason="FailedMount", about="Pod/train-node-0-1-abcde")
    api.lists(PODS, pod(0), pod(1, **CREATING))
    assert kinds(api, cluster, told) == ["volume"]
    api.lists(PODS, pod(0, **PENDING), pod(1))
    assert kinds(api, cluster, told) == []


def test_what_a_failure_policy_did_is_no_reason(api: Api, cluster: Cluster) -> None:
    rules = ("FailurePolicy_preempted", "FailurePolicy_free", "RestartJobSetFailurePolicyAction")
    assert (
        kinds(api, cluster, *(event("x", reason=name, about="JobSet/train") for name in rules))
        == []
    )


SUSPENDED = "kinetoscope.dev/suspended"


@pytest.mark.parametrize(
    ("note", "queued", "reason"),
    [
        (
            {"by": "launcher of run r1, start 2", "why": "a gang", "kind": "gang", "until": 60.0},
            False,
            "suspended: trainjob train: a gang (by launcher of run r1, start 2, until "
            "1970-01-01 00:01:00 UTC)",
        ),
        ({"by": "ada", "why": "stop"}, True, "suspended: trainjob train: stop (by ada)"),
        (None, True, "queued: trainjob train: queue team-a has not started it"),
        (
            None,
            False,
            "suspended: trainjob train: somebody suspended it; who does so lifts it, too",
        ),
    ],
)
def test_a_suspended_job_says_who_did_it_and_why(
    api: Api, cluster: Cluster, note: dict[str, Any] | None, queued: bool, reason: str
) -> None:
    job = train_job(annotations={SUSPENDED: json.dumps(note)} if note else {})
    if queued:
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    job["spec"]["suspend"] = True
    api.has(TRAIN_JOB, job)
    api.lists(PODS)
    seen = observe(cluster, JOB)
    assert (seen.state, list(map(str, seen.reasons))) == ("suspended", [reason])
