"""What is seen of a job in one look, and over an API that is away now and then."""

from __future__ import annotations

import pytest
from tiny.kube_api import EVENTS, JOB, PODS, TRAIN_JOB, Api, container, pod, status, train_job

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import Observation, observe, wait

JOBSET = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/runs/jobsets/train"


def test_silence_of_the_api_is_waited_out(api: Api, cluster: Cluster) -> None:
    answers = iter(
        [
            (200, train_job()),
            status(503, "ServiceUnavailable", "etcd is away"),
            status(403, "Forbidden", "no"),
            (200, train_job("Complete")),
        ]
    )
    api.answers["GET", TRAIN_JOB] = lambda: next(answers)
    api.lists(PODS)
    api.lists(EVENTS)
    seen: list[Observation] = []
    assert wait(cluster, JOB, on_change=seen.append).state == "succeeded"
    assert [one.state for one in seen] == ["pending", "unknown", "unknown", "succeeded"]


@pytest.mark.parametrize("missing", [TRAIN_JOB, PODS, EVENTS])
def test_one_answer_that_is_lacking_says_nothing_of_the_job(
    api: Api, cluster: Cluster, missing: str
) -> None:
    api.has(TRAIN_JOB, train_job())
    api.lists(PODS)
    api.lists(EVENTS)
    api.answers["GET", missing] = lambda: status(500, "InternalError", "etcd")
    seen = observe(cluster, JOB)
    assert (seen.state, [one.kind for one in seen.reasons]) == ("unknown", ["api"])
    assert not seen.finished


def test_a_job_that_is_not_there_is_absent_and_over(api: Api, cluster: Cluster) -> None:
    api.lists(PODS)
    seen = wait(cluster, JOB)
    assert (seen.state, [reason.kind for reason in seen.reasons]) == ("absent", ["deleted"])
    assert seen.reasons[0].hint
    assert seen.finished


def test_pods_of_a_job_that_was_deleted_are_seen_until_they_have_left(
    api: Api, cluster: Cluster
) -> None:
    api.lists(PODS, pod(0), pod(1))
    seen = observe(cluster, JOB)
    assert (seen.state, seen.finished, len(seen.pods)) == ("absent", False, 2)
    (reason,) = seen.reasons
    assert reason.kind == "leaving"
    assert "still there: train-node-0-0-abcde, train-node-0-1-abcde" in reason.message
    killed = container(terminated={"exitCode": 137, "reason": "OOMKilled"})
    api.lists(PODS, pod(0, phase="Failed", **killed))
    assert [one.reason for one in observe(cluster, JOB).failures] == ["OOMKilled"]


def test_a_failure_that_only_a_watcher_saw_is_kept(api: Api, cluster: Cluster) -> None:
    api.lists(EVENTS)
    api.lists(PODS, pod(0))
    answers = iter([train_job()] * 2)
    api.answers["GET", TRAIN_JOB] = lambda: (200, next(answers, train_job("Complete")))
    killed = container(terminated={"exitCode": 137, "reason": "OOMKilled"})
    api.changes = [pod(0, name="train-node-0-0-first", phase="Failed", **killed)]
    seen = wait(cluster, JOB)
    assert seen.state == "succeeded"
    assert [(one.name, one.reason) for one in seen.failures] == [
        ("train-node-0-0-first", "OOMKilled")
    ]


def test_a_stream_that_ends_at_once_brings_no_rush_of_looks(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job())
    api.lists(PODS, pod())
    assert wait(cluster, JOB, timeout_seconds=1.5).state == "running"
    assert len([request for request in api.requests if request.path == TRAIN_JOB]) <= 3


def test_a_job_tells_who_it_is_for_and_that_it_leaves(api: Api, cluster: Cluster) -> None:
    annotations = {"kinetoscope.dev/launched-for": "rabc2345/2"}
    api.has(TRAIN_JOB, train_job(annotations=annotations, deletionTimestamp="2026-11-24T00:00:00Z"))
    api.lists(PODS, pod())
    seen = observe(cluster, JOB)
    assert (seen.uid, seen.launched_for, seen.leaving) == ("u", "rabc2345/2", True)
    assert (seen.state, seen.suspension) == ("running", None)


def test_only_restarts_that_count_towards_the_limit_are_counted(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job())
    api.lists(PODS, pod())
    # As JobSet counts them: a suspension may look like a restart to it.
    api.has(JOBSET, {"status": {"restarts": 5, "restartsCountTowardsMax": 1}})
    assert observe(cluster, JOB).counted_restarts == 1
