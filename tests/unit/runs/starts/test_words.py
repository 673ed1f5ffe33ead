"""What processes of a run say is kept with the run, and shown."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny.mlflow_server import silent_server
from tiny.runs import make_run, new_run, set_running
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.errors import PreemptedError
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.starts.words import keeping_words, list_words
from kinetoscope.runs.view import log_objects

ROOT = Path(__file__).resolve().parents[4]
STEP = "train_spatial_vae"
_log = logging.getLogger("kinetoscope.test")

IN_A_POD = """
import logging, sys, time
from kinetoscope.core.settings import workspace
from kinetoscope.runs.find import find_run
from kinetoscope.runs.starts.words import keeping_words
from kinetoscope.telemetry.logging_setup import setup_logging
setup_logging()
run = find_run(workspace().store_uri, "last")
with keeping_words(run.latest_start(), "train_vae_1"):
    logging.getLogger("kinetoscope").info("the job was created")
    time.sleep(120)
"""


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def texts(run: Run, step: str | None = None) -> list[str]:
    return [run.store.get_bytes(stat.key).decode() for stat in list_words(run.store, step)]


def test_what_a_process_says_and_how_it_ends_is_kept() -> None:
    run = new_run("raaaaaaa")
    start = set_running(run)
    for error in (PreemptedError("the run is to stop", hint="resume it"), ZeroDivisionError("oh")):
        with pytest.raises(type(error)):
            _work(start, error)
    first, second = texts(run, STEP)
    assert "launched job-1" in first
    assert "the run is to stop (hint: resume it)" in first
    assert "Traceback" in second
    assert "ZeroDivisionError: oh" in second
    keys = [stat.key for stat in list_words(run.store, None)]
    assert all(key.startswith(f"starts/000001/logs/{STEP}.2") for key in keys)
    _log.info("not any more")
    assert "not any more" not in "".join(texts(run))


def _work(start: RunStart, error: Exception) -> None:
    with keeping_words(start, STEP):
        _log.info("launched %s", "job-1")
        raise error


def test_they_come_by_start_and_time_before_the_ranks_logs() -> None:
    run = make_run("raaaaaaa")
    for number in (0, 1, 2):
        start = run.start(0) if not number else set_running(run)
        for task in ("begin_run", STEP, "finish_run")[: 3 if number else 1]:
            with keeping_words(start, task):
                _log.info("%s in start %d", task, number)
    told = [line for text in texts(run) for line in text.splitlines()]
    assert [line.rpartition(": ")[2] for line in told] == [
        "begin_run in start 0",
        *(
            f"{task} in start {number}"
            for number in (1, 2)
            for task in ("begin_run", STEP, "finish_run")
        ),
    ]
    keys = [log.key for log in log_objects(run, None)]
    assert keys[-1] == "attempts/000001/logs/rank-0.log"
    assert len(keys) == 8
    assert len(log_objects(run, STEP)) == 3
    shown = CliRunner().invoke(app, ["logs", "raaaaaaa", STEP]).output
    assert f"{STEP} in start 1" in shown
    assert "begin_run in" not in shown
    assert shown.index(f"{STEP} in start 2") < shown.index("step 7: loss nan")


def test_they_are_there_while_the_process_runs_and_after_it_is_killed(tmp_path: Path) -> None:
    run = new_run("raaaaaaa")
    set_running(run)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "platform")}
    process = subprocess.Popen([sys.executable, "-c", IN_A_POD], env=environment)
    try:
        until = time.monotonic() + 60
        while not list_words(run.store, "train_vae_1"):
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (text,) = texts(run)
    assert "the job was created" in text


def test_a_host_on_this_machine_has_them_already(monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run("raaaaaaa")
    start = set_running(run)
    monkeypatch.setenv("KINO_RUN_START", "1")
    with keeping_words(start, STEP):
        _log.info("said")
    assert texts(run) == []


def test_of_very_many_words_the_first_and_the_last_are_kept() -> None:
    run = new_run("raaaaaaa")
    with keeping_words(set_running(run), STEP):
        for number in range(30_000):
            _log.info("line %d %s", number, "x" * 40)
        _log.info("y" * 3_000_000)
        _log.info("the end")
    (text,) = texts(run)
    assert "line 0 " in text
    assert text.endswith("the end\n")
    assert "lines are left out" in text
    assert len(text) < 1 << 20


def test_a_store_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server() as uri:
        monkeypatch.setenv("KINO_S3_ENDPOINT", uri)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        run = Run("s3://bucket", "raaaaaaa")
        began = time.monotonic()
        with keeping_words(RunStart(run.store, "raaaaaaa", "s3://bucket", 0), STEP):
            _log.info("said")
        assert time.monotonic() - began < 8
