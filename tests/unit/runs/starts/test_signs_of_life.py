"""Runs whose host is elsewhere: as long as it gives signs of life, nobody takes them for dead."""

from __future__ import annotations

import threading
import time

import pytest
from tiny.runs import new_run, set_running
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.units import format_utc
from kinetoscope.runs.record_types import Beat, End
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.signs_of_life import find_running
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.view import run_status
from kinetoscope.steps import process_identity

runner = CliRunner()
ELSEWHERE = [
    pytest.param({"host": "elsewhere"}, id="another machine"),
    pytest.param({"pid_namespace": "pid:[1]"}, id="another container"),
    pytest.param({"pid_namespace": "pid:[1]", "boot_id": "another"}, id="a container elsewhere"),
]


@pytest.fixture
def run() -> Run:
    return new_run("raaaaaaa")


def _seen(start: RunStart, seconds_ago: float) -> str:
    """Write a beat of that long ago; return the time as it is told."""
    beat = Beat(count=7, at=time.time() - seconds_ago)
    start._store.put_bytes(f"starts/{start.number:06d}/beat.json", beat.to_bytes())
    return format_utc(beat.at)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_a_host_elsewhere_runs_as_long_as_it_gives_signs_of_life(
    run: Run, elsewhere: dict[str, str]
) -> None:
    start = set_running(run, **elsewhere)
    assert run.state() == "running", "its first beat may be yet to come"
    _seen(start, 590)
    assert run.state() == "running"
    told = _seen(start, 610)
    status = run_status(run)
    assert status["state"] == "interrupted"
    assert status["reason"] == f"its host {start.host} gave no sign of life since {told}"
    assert "kino resume raaaaaaa continues it" in status["hint"]
    start.finish(End(state="stopped"))
    assert run.state() == "stopped"
    assert not start.has_vanished()


def test_a_host_that_never_gave_a_sign_counts_from_its_start(run: Run) -> None:
    start = set_running(run, host="elsewhere")
    assert start.record is not None
    begun = start.record.model_copy(update={"started_at": time.time() - 700, "number": 2})
    run.store.put_bytes("starts/000002.json", begun.to_bytes())
    assert run.state() == "interrupted"


def test_before_a_restart_of_this_machine_or_on_one_of_the_same_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = set_running(run, boot_id="another")
    assert start.record is not None
    monkeypatch.setattr(process_identity, "_OF_THE_MACHINE", start.record.process.pid_namespace)
    _seen(start, 20)
    assert run.state() == "interrupted", "most likely"
    beat = threading.Timer(0.5, lambda: _seen(start, 0))
    beat.start()
    assert find_running([start], print, watch_seconds=20) is start
    beat.join()
    _seen(start, 700)
    assert not start.has_vanished(), "both say so: it has not to be watched"


def test_a_host_here_is_judged_by_its_process_alone(run: Run) -> None:
    start = set_running(run)
    _seen(start, 10_000)
    assert run.state() == "running"


def test_a_clock_that_is_far_ahead_keeps_no_run_alive_for_ever(run: Run) -> None:
    start = set_running(run, host="elsewhere")
    _seen(start, -300)
    assert run.state() == "running"
    _seen(start, -100_000)
    assert run.state() == "interrupted"


@pytest.mark.parametrize("verb", [["rm", "--yes"], ["resume"]], ids=lambda verb: str(verb[0]))
def test_a_run_with_a_young_sign_of_life_is_neither_deleted_nor_resumed(
    run: Run, verb: list[str]
) -> None:
    told = _seen(set_running(run, host="elsewhere"), 200)
    refused = runner.invoke(app, [*verb, "raaaaaaa"])
    assert refused.exit_code == 2
    assert "run raaaaaaa is still running on elsewhere, which gave a sign of life at" in (
        refused.stderr
    )
    assert told in refused.stderr
    assert "kino stop raaaaaaa stops it" in refused.stderr
    assert "if elsewhere is gone, wait until it was silent for 10 minutes" in refused.stderr
    assert run.num_starts() == 1


def test_a_host_that_was_silent_by_the_clock_alone_is_found_alive(run: Run) -> None:
    silent, alive = set_running(run, host="gone"), set_running(new_run("rbbbbbbb"), host="slow")
    for start in (silent, alive):
        _seen(start, 4000)
    told: list[str] = []
    # Its clock is an hour behind.
    beat = threading.Timer(0.5, lambda: _seen(alive, 3600))
    beat.start()
    found = find_running([silent, alive], told.append, watch_seconds=20)
    beat.join()
    assert found is alive
    assert len(told) == 1
    assert "its host gone gave no sign of life since" in told[0]
    assert "its host slow gave no sign of life since" in told[0]
    assert "watching for 20 s more" in told[0]


def test_silent_hosts_are_believed_to_be_gone_once_they_were_watched(run: Run) -> None:
    start = set_running(run, host="gone")
    _seen(start, 4000)
    told: list[str] = []
    began_at = time.monotonic()
    assert find_running([start], told.append, watch_seconds=1.5) is None
    assert time.monotonic() - began_at >= 1.5
    assert told
    assert find_running([set_running(run)], told.append) is not None
    assert len(told) == 1, "of a process here nothing has to be watched"


def test_a_host_that_ends_while_it_is_watched_has_ended(run: Run) -> None:
    start = set_running(run, host="slow")
    _seen(start, 4000)

    def end() -> None:
        start.finish(End(state="failed"))
        _seen(start, 3000)

    ending = threading.Timer(0.2, end)
    ending.start()
    assert find_running([start], print, watch_seconds=2) is None
    ending.join()


def test_a_damaged_sign_of_life_says_as_little_as_none(run: Run) -> None:
    start = set_running(run, host="elsewhere")
    _seen(start, 4000)
    start._store.put_bytes("starts/000001/beat.json", b"{")
    assert run.state() == "running", "it began a moment ago"


def test_a_vanished_run_that_is_stopped_stops_should_its_host_live(run: Run) -> None:
    start = set_running(run, host="elsewhere")
    _seen(start, 4000)
    stopped = runner.invoke(app, ["stop", "raaaaaaa"])
    assert stopped.exit_code == 0
    assert "does not run: interrupted" in stopped.stdout
    assert start.stop_requested()
