"""Two ranks in two pods of the training images: the smoke job on both engines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import installed
import pytest

from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs import submit as training_job
from kinetoscope.kube.jobs.submit import TrainingJob

if TYPE_CHECKING:
    from kinetoscope.kube.connection import Cluster
    from kinetoscope.kube.jobs.request import Engine

_PULL_SECONDS = 900


@pytest.mark.parametrize(
    ("engine", "tag"),
    [
        ("torch_ddp", "KINO_TEST_TRAINER_TAG"),
        ("colossalai_ddp", "KINO_TEST_TRAINER_COLOSSALAI_TAG"),
    ],
)
def test_two_ranks_of_an_image_train_and_agree(
    cluster: Cluster, release: installed.Release, engine: Engine, tag: str
) -> None:
    value = installed.given(tag, f"the tag of the image with the engine {engine}")
    repository = "trainer" if engine == "torch_ddp" else "trainer-colossalai"
    registry = installed.image_values()["registry"]
    job = TrainingJob(
        name=f"smoke-{engine.replace('_', '-')}-{uuid4().hex[:6]}",
        namespace=release.namespace,
        run="tests",
        stage="smoke",
        command=["python", "-m", "kinetoscope.training.smoke.job", "--engine", engine],
        num_nodes=2,
        env={"PYTHONPATH": ""},  # an image brings its own packages
        pod=PodConfig(image=f"{registry}/kinetoscope/{repository}:{value}", gpus=0),
        engine=engine,
    )
    training_job.submit(cluster, job)
    try:
        seen = training_job.wait(cluster, job, timeout_seconds=_PULL_SECONDS)
        assert seen.state == "succeeded", seen
        told = [_told(training_job.logs(cluster, job, rank)) for rank in range(2)]
    finally:
        training_job.delete(cluster, job, wait_seconds=60)
    assert [line["world_size"] for line in told] == [2, 2]
    assert told[0]["weights_digest"] == told[1]["weights_digest"]
    assert {line["engine"] for line in told} == {engine}
    assert len(told[0]["loss"]) == told[0]["steps"] > 0


def _told(log: str) -> dict[str, Any]:
    """Return the JSON object that a rank printed as its last line."""
    line: dict[str, Any] = json.loads(log.strip().splitlines()[-1])
    return line
