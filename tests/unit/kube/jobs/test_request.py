"""Names that Kubernetes and Trainer take, and requests that are refused before anything is sent."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs.request import TrainingJob, check_name, job_name

GOOD: dict[str, Any] = {
    "name": "train",
    "namespace": "runs",
    "run": "rabc2345",
    "stage": "train-vae",
    "command": ["kino"],
}


@given(title=st.text(max_size=60), identity=st.text(max_size=60))
def test_every_title_and_identity_have_a_valid_name(title: str, identity: str) -> None:
    name = job_name(title, identity)
    check_name(name)
    assert re.fullmatch(r"[a-z][-a-z0-9]{0,46}[a-z0-9]", name)
    assert name == job_name(title, identity)


def test_titles_that_look_alike_have_different_names() -> None:
    long = "train-the-temporal-vae-of-the-large-recipe-stage-"
    titles = ("a", "A", "a_", "a.b", "a-b", long + "1", long + "2", "1", "-", "")
    names = {job_name(title, "s3://models/steps/x") for title in titles}
    assert len(names) == len(titles)
    assert job_name("a", "b-c") != job_name("a-b", "c")


def test_the_steps_of_two_stores_have_jobs_of_their_own() -> None:
    uris = [f"s3://{team}/steps/train_dit_1/0123456789abcdef" for team in ("team-a", "team-b")]
    one, other = (job_name("train_dit_1", uri) for uri in uris)
    assert one != other
    assert one.startswith("train-dit-1-")


@pytest.mark.parametrize(
    "name", ["", "1train", "Train", "train-", "train_vae", "t" * 49, "-train", "tr\nain"]
)
def test_a_name_that_would_never_run_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be named"):
        TrainingJob(**{**GOOD, "name": name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "a b"}, "run is 'a b'"),
        ({"stage": "x" * 64}, "stage is"),
        ({"num_nodes": 0}, "num_nodes is 0"),
        ({"procs_per_node": 0}, "procs_per_node is 0"),
        ({"max_restarts": -1}, "max_restarts is -1"),
        ({"command": []}, "must be a list of words"),
        ({"command": "kino step"}, "must be a list of words"),
        ({"env": {"PET_NNODES": "2"}}, r"sets PET_\* itself"),
        ({"env": {"A B": "2"}}, "no name of an environment variable"),
        ({"env": {"A-B": "2"}}, "no name of an environment variable"),
    ],
)
def test_a_request_that_can_not_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingJob(**{**GOOD, **changes})


def test_the_digest_covers_what_the_ranks_do_and_how_many_there_are() -> None:
    job = TrainingJob(**GOOD)
    changes: list[dict[str, Any]] = [
        {"command": ["kino", "x"]},
        {"num_nodes": 2},
        {"procs_per_node": 2},
    ]
    digests = {dataclasses.replace(job, **change).digest() for change in changes}
    assert len(digests | {job.digest()}) == len(changes) + 1
    assert all(digest.startswith("1:sha256:") for digest in digests)


@pytest.mark.parametrize(
    "change",
    [
        {"command": ("kino",)},
        {"pod": PodConfig(image="x", gpus=8, memory="1Gi", queue="team-a")},
        {"env": {"A": "1"}},
        {"max_restarts": 0},
        {"grace_seconds": 900},
        {"launched_for": "rabc2345/2"},
        {"run": "another"},
    ],
)
def test_a_run_with_other_pods_adopts_the_job(change: dict[str, Any]) -> None:
    assert TrainingJob(**{**GOOD, **change}).digest() == TrainingJob(**GOOD).digest()


def test_each_rank_has_a_gpu_unless_the_pods_say_how_many() -> None:
    job = TrainingJob(**GOOD, procs_per_node=4)
    assert job.gpus_per_node == 4
    pods = [PodConfig(gpus=0), PodConfig(gpus=8)]
    assert [dataclasses.replace(job, pod=pod).gpus_per_node for pod in pods] == [0, 8]
    assert not job.queued
    assert dataclasses.replace(job, pod=PodConfig(queue="team-a")).queued
