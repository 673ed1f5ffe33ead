"""What a start of a run notes is its own: no other start is taken to have said it."""

from __future__ import annotations

import shutil

import pytest
from tiny.runs import STEPS, make_finished_run, new_run, set_running

from kinetoscope.config.load import load_config
from kinetoscope.core.config_model import signed_json
from kinetoscope.core.errors import CorruptError, SupersededError, UserError
from kinetoscope.core.hashing import canonical_json
from kinetoscope.core.settings import workspace
from kinetoscope.runs.find import list_runs, open_run
from kinetoscope.runs.finished import is_finished
from kinetoscope.runs.pins import pinned_spec
from kinetoscope.runs.record_types import End, Failure, Start
from kinetoscope.runs.records import Run
from kinetoscope.runs.removal import remove_run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.steps import planned_steps
from kinetoscope.runs.summary import run_summary
from kinetoscope.runs.tasks.run_step import run_step
from kinetoscope.runs.view import run_row
from kinetoscope.steps.contract import latest_spec, read_spec, stop_requested, write_spec
from kinetoscope.steps.process_identity import ProcessIdentity


@pytest.fixture
def run() -> Run:
    return new_run("raaaaaaa")


@pytest.fixture
def planned() -> Run:
    """Return a run that can be pinned to steps."""
    config = load_config("smoke").config
    data = canonical_json(config.to_json()).encode()
    return new_run("rbbbbbbb", config_json=data, steps=[s.name for s in planned_steps(config)])


def _begin_as_an_earlier_version(run: Run, number: int) -> None:
    start = Start(process=ProcessIdentity.of(), started_at=1.0, place=_place(run))
    value = start.model_dump(mode="json")
    del value["number"]
    run.store.put_bytes(f"starts/{number:06d}.json", signed_json(value))


def _place(run: Run) -> str:
    record = set_running(new_run("rzzzzzzz")).record
    assert record is not None
    return record.place


def test_what_an_earlier_start_notes_late_does_not_count(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, later = set_running(run), set_running(run)
    earlier.note_failure(Failure(step=STEPS[0], code=77, reason="late"))
    earlier.note_mirrored()
    monkeypatch.setenv("KINO_RUN_START", "1")
    assert finish_start(run, run.own_start()) == "stopped"
    assert earlier.has_report()
    monkeypatch.delenv("KINO_RUN_START")
    assert run.state() == "running"
    assert (later.failure(STEPS[0]), later.end(), later.is_mirrored(), later.has_report()) == (
        None, None, False, False,
    )  # fmt: skip
    later.finish(End(state="succeeded"))
    earlier.finish(End(state="failed"))
    assert run.state() == "succeeded"


def test_a_late_stop_stops_the_start_that_it_was_meant_for(planned: Run) -> None:
    earlier = set_running(planned)
    spec = pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})
    assert spec.start == 1
    later = set_running(planned)
    earlier.request_stop()
    assert stop_requested(spec)
    assert not later.stop_requested()
    spec = pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})
    assert spec.start == 2
    assert not stop_requested(spec)
    later.request_stop()
    assert stop_requested(spec)


def test_two_starts_and_two_runs_that_share_a_step_see_each_its_own_stop(planned: Run) -> None:
    set_running(planned)
    uris = [write_spec(pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {}))]
    set_running(planned)
    uris.append(write_spec(pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})))
    other = Run(planned.root_uri, "rccccccc")
    record = planned.record.model_copy(update={"run_id": other.run_id})
    other.create(record, planned.config_json, b"")
    set_running(other)
    uris.append(write_spec(pinned_spec(other, other.own_start(), other.config, STEPS[0], {})))
    specs = [read_spec(uri) for uri in uris]
    assert len({spec.key for spec in specs}) == 1
    planned.start(2).request_stop()
    # The first was asked to stop when the second began.
    assert [stop_requested(spec) for spec in specs] == [True, True, False]
    assert latest_spec(specs[0].uri, planned.run_id) == specs[1].model_copy(update={"root_uri": ""})


def test_of_two_commands_that_found_the_same_one_begins(run: Run) -> None:
    ended = set_running(run)
    ended.finish(End(state="failed"))
    start = Start(process=ProcessIdentity.of(), started_at=2.0)
    assert run.begin(start, after=1).number == 2
    with pytest.raises(UserError, match="run raaaaaaa was started by another command") as refused:
        run.begin(start, after=1)
    assert refused.value.hint == "kino status raaaaaaa shows it, kino stop stops it"
    assert run.num_starts() == 2
    assert not ended.stop_requested()


def test_a_start_asks_what_still_runs_of_the_one_before_to_stop(run: Run) -> None:
    before = set_running(run)
    after = set_running(run)
    assert before.stop_requested()
    assert not after.stop_requested()


def test_an_earlier_start_comes_to_no_further_step(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, later = set_running(planned), set_running(planned)
    pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})
    before = planned.step(STEPS[0])
    monkeypatch.setenv("KINO_RUN_START", "1")
    with pytest.raises(SupersededError, match="start 1 of run rbbbbbbb was superseded by start 2"):
        pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})
    with pytest.raises(SupersededError):
        run_step(planned.uri, STEPS[0], {})
    assert planned.step(STEPS[0]) == before
    assert earlier.failure(STEPS[0]) is not None
    assert later.failure(STEPS[0]) is None


def test_what_a_start_of_a_deleted_run_notes_late_is_no_run(run: Run) -> None:
    start = set_running(run)
    start.finish(End(state="failed"))
    remove_run(run, workspace(), print)
    start.beat(9)
    start.note_failure(Failure(step=STEPS[0], code=1, reason="superseded"))
    with pytest.raises(SupersededError, match="start 1 of run raaaaaaa is not on record"):
        run.check_latest(start)
    assert list_runs(run.root_uri) == []


def test_a_start_on_record_in_the_place_of_another_is_refused(run: Run) -> None:
    set_running(run)
    set_running(run)
    one, other = (run.store.local_path(f"starts/00000{n}.json") for n in (1, 2))
    assert one is not None
    assert other is not None
    shutil.copy(one, other)
    with pytest.raises(CorruptError, match="is of start 1"):
        run.state()


def test_a_damaged_start_hides_no_end_and_the_next_one_mends_it(run: Run) -> None:
    set_running(run).finish(End(state="failed", reason="loss is nan"))
    run.store.put_bytes("starts/000001.json", b"{")
    end = run.end()
    assert end is not None
    assert end.reason == "loss is nan"
    assert set_running(run).number == 2
    assert run.state() == "running"


@pytest.mark.parametrize("state", ["succeeded", "failed", "stopped"])
def test_a_run_of_an_earlier_version_stays_as_it_ended(run: Run, state: str) -> None:
    _begin_as_an_earlier_version(run, 1)
    assert run.state() == "running"
    run.store.put_bytes("end.json", End.model_validate({"state": state}).to_bytes())
    run.store.put_bytes("mirrored.json", b"{}")
    run.store.put_bytes("report.html", b"<html>")
    assert run.state() == state
    assert (run.latest_start().is_mirrored(), run.latest_start().has_report()) == (True, True)
    assert set_running(run).number == 2
    assert run_row(open_run(run.uri))["state"] == "running"


def test_what_an_earlier_version_finished_is_finished() -> None:
    run = make_finished_run("raaaaaaa")
    (workspace().root / "mlflow.db").touch()
    for name in ("end.json", "mirrored.json", "report.html"):
        run.store.put_bytes(name, run.store.get_bytes(f"starts/000001/{name}"))
    run.store.delete_prefix("starts")
    _begin_as_an_earlier_version(run, 1)
    assert is_finished(run)
    assert run_summary(run)["report"] == str(run.store.local_path("report.html"))


def test_a_stale_stop_of_an_earlier_version_stops_no_new_start(planned: Run) -> None:
    _begin_as_an_earlier_version(planned, 1)
    planned.latest_start().request_stop()
    assert planned.store.stat("stop.json") is not None
    assert planned.latest_start().stop_requested()
    start = set_running(planned)
    assert not start.stop_requested()
    assert not stop_requested(
        pinned_spec(planned, planned.own_start(), planned.config, STEPS[0], {})
    )
