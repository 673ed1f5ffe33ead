"""What is told of a run's end where no process left a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.ledgers import begin
from tiny.runs import STEPS, new_run, set_running
from tiny.small_disk import fill, small_disk

from kinetoscope.core.errors import PreemptedError, WithdrawnError
from kinetoscope.core.settings import workspace
from kinetoscope.runs.record_types import End, Failure, StepRecord
from kinetoscope.runs.records import Run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.view import run_status
from kinetoscope.steps.contract import StepStatus, status_key
from kinetoscope.storage.open import open_store


def _end(run: Run) -> End:
    finish_start(run, run.own_start())
    end = run.end()
    assert end is not None
    return end


def _begin_step(run: Run, status: StepStatus) -> None:
    record = StepRecord(name=STEPS[0], key=f"steps/{STEPS[0]}/aa", cached=False)
    store = open_store(run.step_uri(record))
    begin(store)
    store.put_bytes(status_key(1), status.to_bytes())
    run.note_step(record)


def test_a_step_that_never_began_is_told_as_such() -> None:
    end = _end(new_run("raaaaaaa"))
    assert (end.state, end.step) == ("failed", STEPS[0])
    assert "never began" in end.reason
    assert "kino logs raaaaaaa shows" in end.hint


# The step's own processes may or may not have noticed already.
@pytest.mark.parametrize(
    "status",
    [
        StepStatus(state="running", generation=1),
        StepStatus(state="stopped", generation=1, code=75, reason="told to stop"),
    ],
    ids=lambda status: status.state,
)
def test_a_step_whose_process_was_killed_is_told_to_have_begun(status: StepStatus) -> None:
    run = new_run("raaaaaaa")
    _begin_step(run, status)
    end = _end(run)
    assert end.state == "failed"
    assert end.reason == "the step began, and what ran attempt 1 of it ended without a word"
    assert f"kino logs raaaaaaa {STEPS[0]} shows" in end.hint
    assert "often a lack of memory" in end.hint


def test_what_the_step_itself_said_is_not_lost_with_its_process() -> None:
    run = new_run("raaaaaaa")
    _begin_step(run, StepStatus(state="failed", generation=1, code=77, reason="loss is nan"))
    end = _end(run)
    assert (end.code, end.reason) == (77, "loss is nan")


@pytest.mark.parametrize("kind", [PreemptedError, WithdrawnError])
def test_a_stopped_run_says_how_to_continue(kind: type[PreemptedError]) -> None:
    run = new_run("raaaaaaa")
    run.latest_start().note_failure(
        Failure.of(STEPS[0], kind("told to stop; step 5 of 9 is saved"))
    )
    end = _end(run)
    assert (end.state, end.hint) == ("stopped", "kino resume raaaaaaa continues it")
    assert "kino resume raaaaaaa continues it" in run.store.get_bytes("report.html").decode()


def test_a_run_without_an_end_says_that_its_processes_are_gone() -> None:
    told = run_status(new_run("raaaaaaa"))
    assert told["state"] == "interrupted"
    assert told["reason"] == "its processes are gone without a word"
    assert "kino resume raaaaaaa" in told["hint"]


def test_a_run_without_an_end_says_what_its_step_said() -> None:
    run = new_run("raaaaaaa")
    _begin_step(run, StepStatus(state="failed", generation=1, code=74, reason="the disk is full"))
    assert run_status(run)["reason"] == f"step {STEPS[0]} failed: the disk is full"


def test_a_disk_too_full_for_an_end_is_found_full_afterwards() -> None:
    with small_disk(workspace().root) as disk:
        run = new_run("raaaaaaa")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            finish_start(run, run.own_start())
        told = run_status(run)
    assert told["state"] == "interrupted"
    assert f"the disk of {disk} is full" in told["reason"]
    assert "kino rm old runs" in told["hint"]
    assert "kino resume raaaaaaa" in told["hint"]


def test_a_run_says_that_its_disk_was_full_with_room_that_was_kept_for_it() -> None:
    with small_disk(workspace().root) as disk:
        run = new_run("raaaaaaa")
        start = set_running(run)
        start.reserve()
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            run.store.put_bytes("x", b"x" * 8192)
        end = _end(run)
        assert run.store.stat(start.reserve_key) is None
        (disk / "ballast").unlink()
        told = run_status(run)
    assert (end.state, end.code) == ("failed", 74)
    assert told["reason"].startswith(f"the disk of {disk}")


def test_a_report_that_can_not_be_written_leaves_the_end_noted() -> None:
    run = new_run("raaaaaaa")
    Path(run.store.uri.removeprefix("file://"), "report.html").mkdir()
    with pytest.raises(OSError, match="directory"):
        finish_start(run, run.own_start())
    assert run.state() == "failed"
