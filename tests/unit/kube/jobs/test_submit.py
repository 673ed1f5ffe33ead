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
    TRAIN_JOB,
    TRAIN_JOBS,
    Api,
    pod,
    status,
    train_job,
)

from kinetoscope.core.errors import ClusterError, ConfigError
from kinetoscope.kube import api_errors
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import delete, submit
from kinetoscope.kube.jobs.which import Which

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


ABSENT = status(404, "NotFound", "not found")


def runtimes_made(api: Api) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in api.sent("POST") if one.path == RUNTIMES]


def test_every_job_has_a_runtime_of_its_own(empty: Api, cluster: Cluster) -> None:
    """One of a name that another launcher may know would be deleted by it, or replaced."""
    submit(cluster, JOB)
    submit(cluster, replace(JOB, pod=PodConfig(image="own:1")))
    names = [runtime["metadata"]["name"] for runtime in runtimes_made(empty)]
    jobs = [json.loads(one.body) for one in empty.sent("POST") if one.path == TRAIN_JOBS]
    assert [job["spec"]["runtimeRef"]["name"] for job in jobs] == names
    assert len(set(names)) == 2
    assert all(name.startswith("train-") and len(name) < 63 for name in names)


def test_the_runtime_of_a_job_that_another_launcher_has_made_first_goes(
    empty: Api, cluster: Cluster
) -> None:
    answers = iter([ABSENT, ABSENT])
    empty.answers["GET", TRAIN_JOB] = lambda: next(answers, (200, train_job()))
    empty.answers["POST", TRAIN_JOBS] = lambda: status(409, "AlreadyExists", "train exists")
    submit(cluster, JOB)
    (own,) = [runtime["metadata"]["name"] for runtime in runtimes_made(empty)]
    assert [one.path for one in empty.sent("DELETE")] == [f"{RUNTIMES}/{own}"]


def test_the_runtime_of_a_job_that_was_refused_goes(empty: Api, cluster: Cluster) -> None:
    empty.answers["POST", TRAIN_JOBS] = lambda: status(403, "Forbidden", "exceeded quota")
    with pytest.raises(api_errors.ForbiddenError):
        submit(cluster, JOB)
    (own,) = [runtime["metadata"]["name"] for runtime in runtimes_made(empty)]
    assert [one.path for one in empty.sent("DELETE")] == [f"{RUNTIMES}/{own}"]


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
    answers = iter([(200, train_job())])
    empty.answers["GET", TRAIN_JOB] = lambda: next(answers, ABSENT)
    for path in (TRAIN_JOB, RUNTIME):
        empty.has(path, {}, method="DELETE")
    delete(cluster, JOB, wait_seconds=1)
    assert [request.path for request in empty.sent("DELETE")] == [TRAIN_JOB, RUNTIME]


def test_the_runtime_of_a_job_goes_though_another_one_has_come(
    empty: Api, cluster: Cluster
) -> None:
    later = train_job(uid="u2") | {"spec": {"runtimeRef": {"name": "train-later"}}}
    answers = iter([(200, train_job())])
    empty.answers["GET", TRAIN_JOB] = lambda: next(answers, (200, later))
    empty.has(TRAIN_JOB, {}, method="DELETE")
    delete(cluster, JOB, which=Which("u", "7"))
    sent = empty.sent("DELETE")
    assert [request.path for request in sent] == [TRAIN_JOB, RUNTIME]
    wanted = {"uid": "u", "resourceVersion": "7"}
    assert json.loads(sent[0].body)["preconditions"] == wanted


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
