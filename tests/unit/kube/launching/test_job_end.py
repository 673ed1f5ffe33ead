"""What the end of a training job means for its step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.kube_api import JOB
from tiny.ledgers import begin
from tiny.steps import step_spec

from kinetoscope.core.errors import ExitCode, KinetoscopeError, UserError
from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.launching.ending import how_it_ended
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.ledger.entries import Ended
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.storage.open import open_store


@pytest.fixture
def spec(tmp_path: Path) -> StepSpec:
    return step_spec("train", "worker", tmp_path.as_uri(), {})


def told(spec: StepSpec, code: int) -> None:
    """Let an attempt end with a code, as its supervisor tells."""
    store = open_store(spec.uri)
    generation = begin(store)
    ended = Ended(code=code, reason="why", hint="", steps=0, told_to_stop=False)
    Ledger(store).append(lambda _: ended, generation)


def failed(
    *codes: int | None, restart: int = 0, message: str = "", oom: bool = False
) -> Observation:
    pods = tuple(
        PodState(
            f"p{rank}", f"p{rank}-{restart}", rank, restart, "Failed", False, code,
            "OOMKilled" if oom else "", message,
        )
        for rank, code in enumerate(codes)
    )  # fmt: skip
    reasons = tuple(filter(None, (pod.why() for pod in pods)))
    return Observation("failed", pods, reasons, failures=pods)


def test_a_cause_that_a_supervisor_told_is_its_code(spec: StepSpec) -> None:
    told(spec, 2)
    assert how_it_ended(spec, JOB, failed(2, 78)) == ExitCode.USER_ERROR


def test_the_brake_is_told_by_the_code_alone(spec: StepSpec) -> None:
    told(spec, 75)
    assert how_it_ended(spec, JOB, failed(77, 75)) == ExitCode.DIVERGED


def test_what_nobody_waited_for_goes_on(spec: StepSpec) -> None:
    told(spec, 79)
    assert how_it_ended(spec, JOB, failed(79, 79)) is None


def test_a_pod_that_died_without_a_word_is_told_by_kubernetes(spec: StepSpec) -> None:
    told(spec, 75)
    ended = how_it_ended(spec, JOB, failed(137, None, restart=2, oom=True))
    assert isinstance(ended, KinetoscopeError)
    assert "out-of-memory" in ended.message
    assert "memory limit" in str(ended.hint)


def test_the_deadline_of_a_job_is_a_failure_though_all_was_saved(spec: StepSpec) -> None:
    told(spec, 75)
    seen = failed(75, 75, message="saved\n")
    deadline = Reason("failed", "trainjob train", "DeadlineExceeded: past its deadline")
    seen = Observation("failed", seen.pods, (*seen.reasons, deadline), failures=seen.failures)
    ended = how_it_ended(spec, JOB, seen)
    assert isinstance(ended, KinetoscopeError)
    assert "DeadlineExceeded" in ended.message
    assert "saved" in ended.message


def test_success_without_a_result_is_none(spec: StepSpec) -> None:
    ended = how_it_ended(spec, JOB, Observation("succeeded"))
    assert isinstance(ended, KinetoscopeError)
    assert "has no result" in ended.message


def test_the_word_of_another_run_s_attempt_is_none_for_ours(spec: StepSpec) -> None:
    """Its pods ended before they had an attempt: what is told last is of an earlier one."""
    told(spec, 2)
    ours = spec.model_copy(update={"run_id": "rbbbbbbb"})
    ended = how_it_ended(ours, JOB, failed(2, 2, message="no such template\n"))
    assert isinstance(ended, UserError)
    assert "no such template" in ended.message
