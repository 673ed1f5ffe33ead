"""Which job is submitted, adopted, waited for or refused, as the API server sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tiny.kube_api import (
    CONFIG_MAPS,
    JOB,
    PODS,
    RUNTIME,
    RUNTIMES,
    TEMPLATES,
    TRAIN_JOB,
    TRAIN_JOBS,
    Answer,
    Api,
    make_template,
    pod,
    status,
    train_job,
)

from kinetoscope.core.errors import ClusterError, ConfigError
from kinetoscope.kube import api_errors
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.submit import delete, submit

DIGEST = "kinetoscope.dev/spec-digest"


def test_a_job_that_is_there_is_adopted_without_the_template(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job())
    submission = submit(cluster, JOB)
    assert (submission.adopted, submission.uid, submission.suspended) == (True, "u", False)
    assert {request.method for request in api.requests} == {"GET"}


@pytest.mark.parametrize("digest", ["0:sha256:another", "sha256:unversioned", "2:x"])
def test_a_job_of_another_version_s_digest_is_adopted(
    api: Api, cluster: Cluster, digest: str
) -> None:
    api.has(TRAIN_JOB, train_job(annotations={DIGEST: digest}))
    assert submit(cluster, JOB).adopted


def test_a_job_without_a_digest_is_adopted(api: Api, cluster: Cluster) -> None:
    api.has(TRAIN_JOB, train_job(annotations=None))
    assert submit(cluster, JOB).adopted


def test_a_job_that_does_something_else_is_refused(api: Api, cluster: Cluster) -> None:
    other = replace(JOB, command=["kino", "other"])
    api.has(TRAIN_JOB, train_job(annotations={DIGEST: other.digest()}))
    with pytest.raises(ConfigError, match="training job train that asks for something else"):
        submit(cluster, JOB)


def test_what_kubernetes_does_not_know_is_refused_and_never_dropped(
    empty: Api, cluster: Cluster
) -> None:
    assert not submit(cluster, JOB).adopted
    created = empty.sent("POST")
    assert [request.path for request in created] == [RUNTIMES, TRAIN_JOBS]
    assert {request.query for request in created} == {"fieldValidation=Strict"}


class Runtimes:
    """Keeps one runtime, and refuses a second one, as the API server does."""

    def __init__(self, api: Api) -> None:
        self.kept: dict[str, Any] | None = None
        self._api = api
        api.answers["POST", RUNTIMES] = self._create
        api.answers["GET", RUNTIME] = lambda: (200, self.kept) if self.kept else ABSENT
        api.answers["DELETE", RUNTIME] = self._delete

    def _create(self) -> Answer:
        if self.kept is not None:
            return status(409, "AlreadyExists", "train exists")
        self.kept = json.loads(self._api.requests[-1].body)
        return 201, self.kept or {}

    def _delete(self) -> Answer:
        self.kept = None
        return 200, {}

    @property
    def container(self) -> dict[str, Any]:
        assert self.kept is not None
        (job,) = self.kept["spec"]["template"]["spec"]["replicatedJobs"]
        found: dict[str, Any] = job["template"]["spec"]["template"]["spec"]["containers"][0]
        return found


ABSENT = status(404, "NotFound", "not found")


def test_a_runtime_that_is_left_of_the_same_job_is_kept(empty: Api, cluster: Cluster) -> None:
    runtimes = Runtimes(empty)
    submit(cluster, JOB)
    submit(cluster, JOB)
    assert runtimes.container["image"] == "trainer:1"
    assert empty.sent("DELETE") == []


@pytest.mark.parametrize(
    ("job", "image"),
    [
        (JOB, "trainer:2"),
        (replace(JOB, pod=PodConfig(image="own:1")), "own:1"),
        (replace(JOB, max_restarts=7), "trainer:1"),
        (replace(JOB, grace_seconds=7), "trainer:1"),
        (replace(JOB, pod=PodConfig(memory="1Gi")), "trainer:1"),
    ],
    ids=["template", "image", "restart limit", "grace", "memory"],
)
def test_a_runtime_that_is_left_of_an_earlier_job_is_replaced_by_what_is_wanted_now(
    empty: Api, cluster: Cluster, job: TrainingJob, image: str
) -> None:
    runtimes = Runtimes(empty)
    submit(cluster, JOB)
    if image == "trainer:2":
        empty.has(TEMPLATES, make_template(image))
    submit(cluster, job)
    assert [request.path for request in empty.sent("DELETE")] == [RUNTIME]
    assert runtimes.container["image"] == image
    assert runtimes.kept is not None
    if job.max_restarts is not None:
        policy = runtimes.kept["spec"]["template"]["spec"]["failurePolicy"]
        assert policy["maxRestarts"] == job.max_restarts


def test_a_webhook_that_does_not_see_the_new_runtime_yet_is_asked_again(
    empty: Api, cluster: Cluster
) -> None:
    created = empty.answers["POST", TRAIN_JOBS]()
    unseen = "specified trainingRuntime must be created before the TrainJob is created"
    answers = iter([status(403, "Forbidden", f"admission webhook denied: {unseen}"), created])
    empty.answers["POST", TRAIN_JOBS] = lambda: next(answers)
    assert not submit(cluster, JOB).adopted


def test_a_refusal_is_not_asked_again(empty: Api, cluster: Cluster) -> None:
    empty.answers["POST", TRAIN_JOBS] = lambda: status(403, "Forbidden", 'User "x" cannot create')
    with pytest.raises(api_errors.ForbiddenError, match="create trainjobs"):
        submit(cluster, JOB)
    assert len([request for request in empty.sent("POST") if request.path == TRAIN_JOBS]) == 1


def test_a_job_that_another_launcher_has_just_made_is_adopted(empty: Api, cluster: Cluster) -> None:
    answers = iter([ABSENT, ABSENT])
    empty.answers["GET", TRAIN_JOB] = lambda: next(answers, (200, train_job()))
    empty.answers["POST", TRAIN_JOBS] = lambda: status(409, "AlreadyExists", "train exists")
    assert submit(cluster, JOB).adopted


SNAPSHOT = f"{CONFIG_MAPS}/train-runtime-snapshot"


@pytest.mark.parametrize(
    ("path", "value", "left"),
    [
        (SNAPSHOT, {"metadata": {"name": "x"}}, "configmap train-runtime-snapshot"),
        (TRAIN_JOB, train_job(deletionTimestamp="2026-11-24T00:00:00Z"), "trainjob train"),
        (PODS, {"metadata": {}, "items": [pod()]}, "pod train-node-0-0-abcde"),
    ],
)
def test_what_is_left_of_a_deleted_job_is_waited_for(
    empty: Api, cluster: Cluster, path: str, value: dict[str, Any], left: str
) -> None:
    gone = empty.answers.get(("GET", path), lambda: ABSENT)
    empty.has(path, value)
    with pytest.raises(ClusterError, match="of a deleted training job train") as error:
        submit(cluster, JOB)
    assert left in error.value.message
    assert empty.sent("POST") == [], "a second set of pods would write the same checkpoints"
    answers = iter([(200, value)] * 2)
    empty.answers["GET", path] = lambda: next(answers, gone())
    assert not submit(cluster, JOB, wait_seconds=30).adopted


def test_a_job_is_deleted_before_its_runtime(empty: Api, cluster: Cluster) -> None:
    for path in (TRAIN_JOB, RUNTIME):
        empty.has(path, {}, method="DELETE")
    delete(cluster, JOB, wait_seconds=1)
    assert [request.path for request in empty.sent("DELETE")] == [TRAIN_JOB, RUNTIME]


def test_the_runtime_of_a_job_that_is_still_there_stays(empty: Api, cluster: Cluster) -> None:
    empty.has(TRAIN_JOB, train_job(deletionTimestamp="2026-11-24T00:00:00Z"))
    empty.has(TRAIN_JOB, {}, method="DELETE")
    delete(cluster, JOB)
    assert [request.path for request in empty.sent("DELETE")] == [TRAIN_JOB]


def test_a_job_for_a_queue_is_made_suspended(empty: Api, cluster: Cluster) -> None:
    submit(cluster, replace(JOB, pod=PodConfig(queue="team-a")))
    sent = json.loads(empty.sent("POST")[-1].body)
    assert sent["spec"]["suspend"] is True
    assert sent["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
