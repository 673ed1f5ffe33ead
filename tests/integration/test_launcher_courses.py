"""Launchers of one step through what others do meanwhile, on a cluster that is small and quick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny.kube_api import PODS, TRAIN_JOBS
from tiny.launchings import Launching, Stage, hurry

from kinetoscope.core.errors import CorruptError, ExitCode, SupersededError
from kinetoscope.kube.jobs.suspension import read_suspension
from kinetoscope.kube.launching.record import JobRecord, read_job_record
from kinetoscope.steps.ledger.ledger import FOLD_KEY, entry_key
from kinetoscope.storage.open import open_store

WORKFLOW = "/apis/argoproj.io/v1alpha1/namespaces/runs/workflows/wf"
SHORT, LONG = 5, 10_000


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    hurry(monkeypatch)
    with Stage(tmp_path).open() as opened:
        yield opened
    assert opened.cluster.wrongs == []


def test_a_step_is_trained_and_nothing_is_left(stage: Stage) -> None:
    launching = stage.launch()
    stage.wait_for_end()
    assert launching.ended == ExitCode.DONE
    assert stage.state.result
    assert stage.cluster.train_jobs() == stage.cluster.runtimes() == []


def test_a_later_start_takes_over_from_one_whose_launcher_lives(stage: Stage) -> None:
    """The two must not suspend and lift in turns."""
    stage.num_parts = LONG
    stage.cluster.grace_ticks = (100, 101)
    first = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    second = stage.launch(start=2)
    stage.wait_for_end(first, seconds=20)
    assert isinstance(first.ended, SupersededError)
    stage.num_parts = SHORT
    stage.wait_for_end()
    assert second.ended == ExitCode.DONE
    assert [made[0] for made in stage.cluster.made] == ["raaaaaaa/1", "raaaaaaa/2"]
    assert [one.body for one in stage.cluster.sent("PATCH") if "false" in one.body] == []
    assert stage.cluster.train_jobs() == []


def test_who_comes_later_takes_a_job_over_that_a_launcher_let_go_of_and_died(stage: Stage) -> None:
    stage.cluster.faults.unschedulable = True
    first = stage.launch(gang_minutes=0.01)
    stage.wait_for(lambda: suspended(stage), "half a gang to be let go")
    first.kill()
    stage.wait_for_end(first)
    stage.cluster.faults.unschedulable = False
    second = stage.launch("rbbbbbbb")
    third = stage.launch(start=2)
    stage.wait_for_end(second, third, seconds=40)
    assert (second.ended, third.ended) == (ExitCode.DONE, ExitCode.DONE)


def test_half_a_gang_that_was_let_go_comes_back_by_itself(stage: Stage) -> None:
    stage.cluster.faults.unschedulable = True
    launching = stage.launch(gang_minutes=0.01)
    stage.wait_for(lambda: suspended(stage), "half a gang to be let go")
    stage.wait_for(lambda: not suspended(stage), "the next try")
    stage.cluster.faults.unschedulable = False
    stage.wait_for_end()
    assert launching.ended == ExitCode.DONE


def test_a_run_is_told_how_its_own_job_ended(stage: Stage) -> None:
    """The pods of the job that it waited for ended in other ways, and later in their count."""
    stage.codes = {"raaaaaaa/1": [1, 77], "rbbbbbbb/1": [2]}
    first = stage.launch()
    stage.wait_for(lambda: stage.cluster.made, "a job")
    second = stage.launch("rbbbbbbb")
    stage.wait_for_end()
    assert (first.ended, second.ended) == (ExitCode.DIVERGED, ExitCode.USER_ERROR)
    told = record(second)
    assert told
    assert {failure.exit_code for failure in told.failures} == {2}


def test_training_that_was_given_up_in_vain_is_not_gone_on_with_for_ever(stage: Stage) -> None:
    stage.codes = {"raaaaaaa/1": [1, 79, 2, 0]}
    launching = stage.launch()
    stage.wait_for_end()
    assert launching.ended == ExitCode.USER_ERROR


def test_a_suspension_without_a_note_is_never_lifted(stage: Stage) -> None:
    """Somebody lifts half a gang's by hand, which leaves its note, and later suspends the job."""
    stage.num_parts = LONG
    stage.cluster.faults.unschedulable = True
    launching = stage.launch(gang_minutes=0.02)
    stage.wait_for(lambda: suspended(stage), "half a gang to be let go")
    stage.cluster.faults.unschedulable = False
    (job,) = stage.cluster.train_jobs()
    path = f"{TRAIN_JOBS}/{job['metadata']['name']}"
    stage.cluster.patch(path, {"spec": {"suspend": False}})
    stage.wait_for(lambda: stage.state.checkpoints, "training")
    stage.wait_for(lambda: not noted(stage), "the launcher to see that, and to clear its note")
    stage.cluster.patch(path, {"spec": {"suspend": True}})
    time.sleep(4)
    assert suspended(stage)
    stage.num_parts = SHORT
    stage.cluster.patch(path, {"spec": {"suspend": False}})
    stage.wait_for_end()
    assert launching.ended == ExitCode.DONE


def test_runs_that_wait_for_one_job_do_not_take_each_other_s_runtime(stage: Stage) -> None:
    stage.num_parts = LONG
    first = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    waiting = [stage.launch("rbbbbbbb"), stage.launch("rccccccc"), stage.launch("rddddddd")]
    stage.wait_for(lambda: all(waits(one) for one in waiting), "them to wait")
    stage.cluster.faults.slow_seconds = 0.1
    stage.stop(1)
    stage.wait_for_end(first)
    stage.num_parts = SHORT
    stage.wait_for_end()
    assert {one.ended for one in waiting} == {ExitCode.DONE}
    assert stage.cluster.train_jobs() == stage.cluster.runtimes() == []


def test_a_stop_ends_what_an_earlier_start_has_left(stage: Stage) -> None:
    stage.num_parts = LONG
    first = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    first.kill()
    stage.wait_for_end(first)
    stage.stop(2)
    second = stage.launch(start=2)
    stage.wait_for_end(second)
    assert second.ended == ExitCode.PREEMPTED
    assert stage.cluster.train_jobs() == []


def test_pods_that_see_a_stop_first_do_not_hold_it_up(stage: Stage) -> None:
    """They have ended, and stay for as long as their job does."""
    stage.num_parts = LONG
    launching = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    stage.cluster.faults.broken = ("PATCH",)
    stage.stop(1)
    stage.wait_for_end(seconds=20)
    assert launching.ended == ExitCode.PREEMPTED
    assert stage.cluster.train_jobs() == []


def test_a_run_that_is_terminated_leaves_no_pod_and_its_retry_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "launcher-0")
    labels = {"workflows.argoproj.io/workflow": "wf"}
    stage.cluster.has(f"{PODS}/launcher-0", {"metadata": {"name": "launcher-0", "labels": labels}})
    stage.cluster.has(WORKFLOW, workflow())
    stage.num_parts = LONG
    first = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    stage.cluster.has(WORKFLOW, workflow(activeDeadlineSeconds=0))
    stage.wait_for_end(first)
    assert first.ended == ExitCode.PREEMPTED
    assert stage.cluster.sets == []
    (job,) = stage.cluster.train_jobs()
    note = read_suspension(job)
    assert note
    assert "workflow wf is being ended" in note.why
    stage.cluster.has(WORKFLOW, workflow())
    stage.num_parts = SHORT
    again = stage.launch()
    stage.wait_for_end(again)
    assert again.ended == ExitCode.DONE
    assert [made[0] for made in stage.cluster.made] == ["raaaaaaa/1"]


def workflow(**spec: int) -> dict[str, Any]:
    return {"metadata": {"name": "wf", "resourceVersion": "1"}, "spec": spec}


def test_a_damaged_ledger_ends_a_launcher(stage: Stage) -> None:
    stage.num_parts = LONG
    launching = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    stage.cluster.faults.away = True
    open_store(launching.spec.uri).put_bytes(entry_key(1), b"{}")
    open_store(launching.spec.uri).delete(FOLD_KEY)
    stage.cluster.faults.away = False
    stage.wait_for_end()
    assert isinstance(launching.ended, CorruptError)


def test_a_job_of_another_store_is_waited_for(stage: Stage) -> None:
    """Its name may be the same, and what it is for is not to be found here."""
    stage.num_parts = LONG
    first = stage.launch()
    stage.wait_for(lambda: stage.state.checkpoints, "a checkpoint")
    open_store(first.spec.uri).delete_prefix("specs/raaaaaaa")
    second = stage.launch("rbbbbbbb")
    stage.wait_for(lambda: waits(second), "it to wait")
    time.sleep(1)
    assert second.is_at_work
    stage.num_parts = SHORT
    stage.wait_for_end()
    assert second.ended == ExitCode.DONE


def suspended(stage: Stage) -> bool:
    return any(job["spec"].get("suspend") for job in stage.cluster.train_jobs())


def noted(stage: Stage) -> bool:
    return any(read_suspension(job) for job in stage.cluster.train_jobs())


def record(launching: Launching) -> JobRecord | None:
    """Return what a launcher has told."""
    return read_job_record(open_store(launching.spec.root_uri), launching.spec.launcher_key)


def waits(launching: Launching) -> bool:
    """Tell whether a launcher has told that it waits."""
    told = record(launching)
    return told is not None and told.state == "waiting"
