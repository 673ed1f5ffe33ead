"""What `kino status` tells of a training job, given what its launcher told."""

from __future__ import annotations

import time

import pytest
from tiny.runs import new_run

from kinetoscope.kube.launching.record import JobRecord
from kinetoscope.runs.jobs.told import job_row, with_job
from kinetoscope.runs.record_types import StepRecord

STEP = "train_vae_1"


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "waiting"), (-3600, "running"), (3600, "running")]
)
def test_what_was_told_long_ago_or_is_yet_to_be_is_not_how_it_is_now(
    seconds: float, state: str
) -> None:
    run = new_run("raaaaaaa")
    told = JobRecord(job="j", namespace="n", state="pending", at=time.time() + seconds)
    key = run.start(1).launcher_key(STEP)
    run.store.put_bytes(key, told.to_bytes())
    record = StepRecord(name=STEP, key=f"steps/{STEP}/0", start=1, cached=False)
    row = {"name": STEP, "state": "running", "metrics_url": "", "reason": ""}
    assert with_job(row, job_row(run, record))["state"] == state


def test_a_damaged_word_of_a_launcher_is_none() -> None:
    run = new_run("raaaaaaa")
    run.store.put_bytes(run.start(1).launcher_key(STEP), b"{")
    assert job_row(run, StepRecord(name=STEP, key=f"steps/{STEP}/0", start=1, cached=False)) is None
