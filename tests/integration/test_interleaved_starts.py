"""Starts of one run that overlap: hosts that are late, two at once, one that nobody noted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetoscope.config.load import load_config
from kinetoscope.core.settings import workspace
from kinetoscope.pipelines.local import create_run
from kinetoscope.runs.record_types import Beat, Start
from kinetoscope.runs.records import Run
from kinetoscope.steps.process_identity import ProcessIdentity

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a run that fails as soon as its first step looks for its videos."""
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"a")
    run = create_run(load_config("smoke"), str(videos), workspace())
    videos.rename(tmp_path / "moved")
    return run


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_of_commands_that_resume_a_run_at_once_one_goes_on(run: Run, kino: Any) -> None:
    run.store.put_bytes("stop.json", b"{}")  # of an earlier version, and stale
    commands = [kino.start("resume", run.run_id) for _ in range(3)]
    told = [command.communicate(timeout=200)[1] for command in commands]
    refusals = [text for text in told if "was started by another" in text or "still run" in text]
    assert len(refusals) == 2, told
    (gone_on,) = set(told) - set(refusals)
    assert "step prepare_data" in gone_on
    assert run.num_starts() == 1
    assert run.state() == "failed"
    assert "a.mp4" in gone_on or "videos" in gone_on


@pytest.mark.slow
def test_a_host_that_was_taken_to_be_gone_and_comes_back_changes_nothing(
    run: Run, kino: Any
) -> None:
    late = kino.start("resume", run.run_id)
    start = run.start(1)
    _wait_until(lambda: run.start(1).latest_beat() is not None)
    record = run.start(1).record
    assert record is not None
    host = psutil.Process(record.process.pid)
    family = [host, *host.children(recursive=True)]
    for process in family:
        process.suspend()
    _move_elsewhere(run, record)
    assert run.state() == "interrupted"
    out, err = kino.start("resume", run.run_id).communicate(timeout=200)
    assert "its host elsewhere gave no sign of life since" in err
    assert "step prepare_data" in err, out
    end = run.end()
    assert end is not None
    assert (end.state, run.num_starts()) == ("failed", 2)
    noted = {stat.key: run.store.get_bytes(stat.key) for stat in _of_the_run(run)}
    for process in family:
        process.resume()
    late.communicate(timeout=120)
    assert start.has_ended()
    assert run.end() == end
    assert {stat.key: run.store.get_bytes(stat.key) for stat in _of_the_run(run)} == noted
    assert not start.is_mirrored()
    failure = start.failure("prepare_data")
    assert failure is None or "superseded" in failure.reason or "stop" in failure.reason


@pytest.mark.slow
def test_a_run_whose_host_vanished_is_deleted_once_it_was_watched(run: Run, kino: Any) -> None:
    start = run.begin(Start(process=ProcessIdentity.of(), started_at=time.time()), after=0)
    assert "is still running" in kino("rm", run.run_id, "--yes", code=2)
    assert start.record is not None
    _move_elsewhere(run, start.record)
    out, err = kino.start("rm", run.run_id, "--yes").communicate(timeout=100)
    assert err.startswith("its host elsewhere gave no sign of life since 20")
    assert "watching for 35 s more" in err
    assert f"run {run.run_id} deleted" in out
    assert run.store.list() == []


def _move_elsewhere(run: Run, record: Start) -> None:
    """Let the first start look like one of another machine that was silent for an hour."""
    process = record.process.model_copy(update={"host": "elsewhere"})
    moved = record.model_copy(update={"process": process})
    run.store.put_bytes("starts/000001.json", moved.to_bytes())
    beat = Beat(count=1, at=time.time() - 3600)
    run.store.put_bytes("starts/000001/beat.json", beat.to_bytes())


def _of_the_run(run: Run) -> list[Any]:
    """Return all objects of the run but those of its first start."""
    return [stat for stat in run.store.list() if not stat.key.startswith("starts/000001")]


def _host_alone(run: Run, starter: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kinetoscope.pipelines.local_host", run.uri],
        env=os.environ | {"KINO_RUN_START": "1", "KINO_STARTER_PID": str(starter)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_host_whose_starter_died_before_its_start_was_noted_leaves_nothing(run: Run) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    before = run.store.list()
    done = _host_alone(run, ended.pid)
    assert done.returncode != 0
    assert "nobody noted the start" in done.stderr
    assert run.store.list() == before


def test_a_host_whose_start_is_another_s_leaves_nothing(run: Run) -> None:
    run.begin(Start(process=ProcessIdentity.of(), started_at=time.time()), after=0)
    before = run.store.list()
    done = _host_alone(run, os.getpid())
    assert done.returncode != 0
    assert run.store.list() == before
