"""When a job that somebody else has asked for has to go, and when it is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.steps import step_spec

from kinetoscope.core.errors import SupersededError
from kinetoscope.kube.jobs.state import Observation
from kinetoscope.kube.jobs.suspension import Suspension
from kinetoscope.kube.launching.others import Others
from kinetoscope.steps.contract import StepSpec, write_spec

EARLIER, ANOTHER = "raaaaaaa/1", "rbbbbbbb/1"
GANG, STOP = Suspension("ada", "why", "gang"), Suspension("ada", "why", "stop")


@pytest.fixture
def spec(tmp_path: Path) -> StepSpec:
    return step_spec("train", "worker", tmp_path.as_uri(), {}, start=2)


@pytest.mark.parametrize(
    ("seen", "must_go"),
    [
        (Observation("running", launched_for=EARLIER), True),
        (Observation("pending", launched_for=EARLIER, suspension=STOP), True),
        (Observation("suspended", launched_for=EARLIER, suspension=GANG), True),
        (Observation("suspended", launched_for=EARLIER, queued=True), True),
        (Observation("suspended", launched_for=EARLIER, suspension=STOP), False),
        (Observation("suspended", launched_for=EARLIER), False),
        (Observation("running", launched_for=ANOTHER), False),
        (Observation("running", launched_for=""), False),
        (Observation("running", launched_for="of another version"), False),
    ],
    ids=[
        "runs",
        "stopped, and runs again",
        "half a gang",
        "waits in a queue",
        "stopped",
        "held by somebody",
        "another run",
        "nobody",
        "another version",
    ],
)
def test_what_an_earlier_start_has_left_goes_unless_it_goes_already_or_is_held(
    spec: StepSpec, seen: Observation, must_go: bool
) -> None:
    assert Others(spec).must_go(seen) is must_go


def test_a_later_start_that_has_come_to_the_step_supersedes(spec: StepSpec) -> None:
    others = Others(spec)
    write_spec(spec)
    others.check_superseded(Observation("running", launched_for="raaaaaaa/2"))
    with pytest.raises(SupersededError, match="start 2 of run raaaaaaa was superseded by 3"):
        others.check_superseded(Observation("running", launched_for="raaaaaaa/3"))
    write_spec(spec.model_copy(update={"start": 10}))
    with pytest.raises(SupersededError, match="superseded by 10"):
        others.check_superseded(Observation("absent"))
    write_spec(spec.model_copy(update={"run_id": "rbbbbbbb", "start": 12}))
    Others(spec.model_copy(update={"start": 10})).check_superseded(Observation("absent"))
