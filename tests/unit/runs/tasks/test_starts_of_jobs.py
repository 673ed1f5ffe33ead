"""Which start a task works for: retried by the backend, reopened by its button, or superseded."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny.runs import STEPS, make_finished_run, new_run

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import (
    DivergedError,
    KinetoscopeError,
    PreemptedError,
    SupersededError,
    UserError,
)
from kinetoscope.core.hashing import canonical_json
from kinetoscope.runs.record_types import End, Failure, Start
from kinetoscope.runs.records import Run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.starts.start import start_key
from kinetoscope.runs.steps import planned_steps
from kinetoscope.runs.tasks.of_job import begin_for_job, is_reopened, start_of_job
from kinetoscope.runs.tasks.run_step import run_step
from kinetoscope.steps.process_identity import ProcessIdentity

JOB, OTHER = "job-1", "job-2"


@pytest.fixture
def run() -> Run:
    config = load_config("smoke").config
    data = canonical_json(config.to_json()).encode()
    return new_run("raaaaaaa", config_json=data, steps=[s.name for s in planned_steps(config)])


def ended(run: Run) -> None:
    run.latest_start().finish(End(state="stopped"))


def test_tasks_of_a_job_work_for_its_start_until_that_has_ended(run: Run) -> None:
    begin_for_job(run, JOB)
    assert [start_of_job(run, JOB).number for _ in range(3)] == [1, 1, 1]
    assert not is_reopened(run, run.latest_start())
    run.latest_start().request_stop()
    ended(run)
    assert [start_of_job(run, JOB).number for _ in range(3)] == [2, 2, 2]
    assert is_reopened(run, run.latest_start())
    assert not run.latest_start().stop_requested()
    assert run.state() == "running"


def test_tasks_that_reopen_a_run_at_once_share_one_start(run: Run) -> None:
    begin_for_job(run, JOB)
    ended(run)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: start_of_job(run, JOB).number, range(24)))
    assert (set(found), run.num_starts()) == ({2}, 2)


def test_a_job_whose_run_another_one_goes_on_with_is_over(run: Run) -> None:
    begin_for_job(run, JOB)
    begin_for_job(run, OTHER)
    assert run.start(1).stop_requested()
    with pytest.raises(SupersededError, match="goes on by job job-2, not by job job-1"):
        start_of_job(run, JOB)
    ended(run)
    with pytest.raises(SupersededError):
        start_of_job(run, JOB)
    here = Start(process=ProcessIdentity.of(), started_at=time.time())
    run.begin(here, after=2)
    with pytest.raises(SupersededError, match="goes on by a process on "):
        start_of_job(run, OTHER)


def test_a_reopened_start_succeeds_with_the_steps_that_the_one_before_had_done() -> None:
    run = make_finished_run("rbbbbbbb")
    first = run.latest_start().record
    assert first is not None
    # As if Kubeflow had started it, and its last step had failed at first.
    run.store.put_bytes(start_key(1), first.model_copy(update={"job_id": JOB}).to_bytes())
    prepared = run.step(STEPS[0])
    assert prepared is not None
    run.note_step(prepared.model_copy(update={"start": 1}))
    run.latest_start().finish(End(state="failed"))
    assert finish_start(run, start_of_job(run, JOB)) == "succeeded"
    # Another job comes to every step anew.
    assert finish_start(run, begin_for_job(run, OTHER)) == "failed"


def test_a_resume_after_a_resume_is_no_reopened_start(run: Run) -> None:
    begin_for_job(run, JOB)
    ended(run)
    begin_for_job(run, OTHER)
    assert not is_reopened(run, run.latest_start())


@pytest.mark.parametrize(("code", "error"), [(2, UserError), (77, DivergedError)])
def test_a_retried_task_of_a_step_that_ended_for_good_ends_at_once(
    run: Run, code: int, error: type[Exception]
) -> None:
    start = begin_for_job(run, JOB)
    start.note_failure(Failure(step=STEPS[0], code=code, reason="so it is", hint="do that"))
    with pytest.raises(error, match="so it is"):
        run_step(run.uri, STEPS[0], {}, JOB)
    assert run.step(STEPS[0]) is None, "it was not begun"
    failure = start.failure(STEPS[0])
    assert failure is not None
    assert (failure.code, failure.hint) == (code, "do that")
    assert not start.has_ended(), "the exit handler does that"


def test_a_retried_task_of_a_run_that_was_stopped_ends_at_once(run: Run) -> None:
    begin_for_job(run, JOB).request_stop()
    with pytest.raises(PreemptedError, match="was stopped before step prepare_data"):
        run_step(run.uri, STEPS[0], {}, JOB)


def test_a_step_that_fails_in_a_reopened_start_ends_it(run: Run) -> None:
    begin_for_job(run, JOB)
    ended(run)
    with pytest.raises(KinetoscopeError):  # it has no videos
        run_step(run.uri, STEPS[0], {}, JOB)
    end = run.end()
    assert (run.num_starts(), end and end.state, end and end.step) == (2, "failed", STEPS[0])


def test_a_failure_that_a_retry_mended_is_none(run: Run) -> None:
    start = begin_for_job(run, JOB)
    start.note_failure(Failure(step="train_vae_1", code=1, reason="a slow store"))
    start.forget_failure("train_vae_1")
    start.note_failure(Failure(step="train_vae_2", code=1, reason="first"))
    start.note_failure(Failure(step="train_vae_2", code=2, reason="then"))
    assert start.failure("train_vae_1") is None
    told = start.failure("train_vae_2")
    assert told is not None
    assert (told.code, told.reason) == (2, "then")
