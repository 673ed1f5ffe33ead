"""Names that Kubernetes and Trainer take, and requests that are refused before anything is sent."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.jobs.request import TrainingJob, check_name, job_name

GOOD: dict[str, Any] = {
    "name": "train",
    "namespace": "runs",
    "run": "rabc2345",
    "stage": "train-vae",
    "command": ["kino"],
}


@given(run=st.text(min_size=1, max_size=60), stage=st.text(max_size=60))
def test_every_run_and_stage_has_a_valid_name(run: str, stage: str) -> None:
    name = job_name(run, stage)
    check_name(name)
    assert re.fullmatch(r"[a-z][-a-z0-9]{0,46}[a-z0-9]", name)
    assert name == job_name(run, stage)


def test_stages_that_look_alike_have_different_names() -> None:
    long = "train-the-temporal-vae-of-the-large-recipe-stage-"
    stages = ("a", "A", "a_", "a.b", "a-b", long + "1", long + "2")
    names = {job_name("rabc2345", stage) for stage in stages}
    assert len(names) == len(stages)
    assert job_name("a", "b-c") != job_name("a-b", "c")
    assert all(name.startswith("rabc2345-") for name in names)


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
        ({"gpus_per_node": -1}, "gpus_per_node is -1"),
        ({"max_restarts": -1}, "max_restarts is -1"),
        ({"command": []}, "must be a list of words"),
        ({"command": "kino step"}, "must be a list of words"),
        ({"env": {"PET_NNODES": "2"}}, r"sets PET_\* itself"),
        ({"env": {"A-B": "2"}}, "no name of an environment variable"),
    ],
)
def test_a_request_that_can_not_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingJob(**{**GOOD, **changes})


def test_the_digest_covers_the_whole_request_and_nothing_else() -> None:
    job = TrainingJob(**GOOD, env={"A": "1", "B": "2"})
    same = TrainingJob(**{**GOOD, "command": ("kino",)}, env={"B": "2", "A": "1"})
    assert job.digest() == same.digest()
    changes: list[dict[str, Any]] = [
        {"num_nodes": 2},
        {"env": {"A": "1"}},
        {"image": "x"},
        {"command": ["kino", "x"]},
        {"engine": "colossalai_ddp"},
        {"max_restarts": 0},
        {"priority_class": "high"},
    ]
    digests = {dataclasses.replace(job, **change).digest() for change in changes}
    assert len(digests | {job.digest()}) == len(changes) + 1
