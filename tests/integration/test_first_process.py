"""A supervisor that is the first process of its PID namespace, as in a pod, is told to stop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.pods import end_all
from tiny.privileges import do_or_skip
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import RuntimeConfig, StepSpec, write_spec
from kinetoscope.steps.results import step_state
from kinetoscope.steps.stop_signals import STOPPED_CODE

WORKER = """
import time
from kinetoscope.core.errors import PreemptedError
from kinetoscope.steps.worker import run_worker

def main(ctx):
    for part in range(6000):
        if ctx.stop_requested:
            raise PreemptedError("saved")
        time.sleep(0.01)
        ctx.progress(part + 1, 6000, "parts", kept=0)

if __name__ == "__main__":
    run_worker(main)
"""
# Python's own start, in which the kernel drops what it sends to a first process.
PYTHON_STARTS_SECONDS = 0.5
DRAWN = random.Random(15)  # noqa: S311 - the same each time
MOMENTS = [DRAWN.uniform(0.0, 2.0) for _ in range(12)]
NO_STORE = {
    "KINO_S3_ENDPOINT": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
}

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepSpec:
    place_worker(tmp_path, monkeypatch, "first_worker", WORKER)
    runtime = RuntimeConfig(max_restarts=0, threads_per_process=1)
    return step_spec("toy", "first_worker", (tmp_path / "objects").as_uri(), {}, runtime=runtime)


@pytest.fixture
def start(spec: StepSpec) -> Start:
    """Starts a supervisor as process 1 of a namespace; the process returned is its parent."""
    probe = ["unshare", "--pid", "--fork", "--kill-child", "true"]
    do_or_skip(probe, "to make a PID namespace")

    def started(spec_uri: str = "", **variables: str) -> subprocess.Popen[bytes]:
        command = [*probe[:-1], sys.executable, "-m", "kinetoscope.steps.supervisor"]
        command.append(spec_uri or write_spec(spec))
        return subprocess.Popen(command, env=os.environ | variables)

    return started


def first_process(parent: subprocess.Popen[bytes]) -> int:
    """Return the number, here, of the process that is 1 in its own namespace."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline
    return int(found[0])


def test_the_code_is_that_of_a_stop() -> None:
    assert STOPPED_CODE == ExitCode.PREEMPTED


@pytest.mark.parametrize("moment", MOMENTS, ids=[f"{m:.2f}s" for m in MOMENTS])
def test_a_stop_is_heard_whenever_it_comes(
    start: Start, tmp_path: Path, spec: StepSpec, moment: float
) -> None:
    stop_file = tmp_path / "stop"
    parent = start(KINO_STOP_FILE=str(stop_file))
    try:
        first = first_process(parent)
        time.sleep(moment)
        if moment < PYTHON_STARTS_SECONDS:
            stop_file.touch()  # as the hook before a pod's stop does
        os.kill(first, signal.SIGTERM)
        assert parent.wait(30) == ExitCode.PREEMPTED
    finally:
        end_all([parent])
    ended = step_state(spec.uri).ended
    assert ended is None or ended.told_to_stop


def test_signals_are_heard_before_anything_that_takes_time_is_imported(start: Start) -> None:
    parent = start()
    try:
        first = Path(f"/proc/{first_process(parent)}")
        deadline = time.monotonic() + 10
        while not catches(first, signal.SIGTERM):
            assert time.monotonic() < deadline
        assert "pydantic" not in (first / "maps").read_text()
        os.kill(int(first.name), signal.SIGTERM)
        assert parent.wait(5) == ExitCode.PREEMPTED
    finally:
        end_all([parent])


def catches(process: Path, signum: int) -> bool:
    """Tell whether a process has a handler for a signal, given its folder in ``/proc``."""
    rows = (row.split(":\t") for row in (process / "status").read_text().splitlines())
    mask = next(int(value, 16) for name, value in rows if name == "SigCgt")
    return bool(mask & 1 << (signum - 1))


@pytest.mark.parametrize("moment", [0.0, 3.0])
def test_the_file_alone_is_a_stop(start: Start, tmp_path: Path, moment: float) -> None:
    stop_file = tmp_path / "stop"
    parent = start(KINO_STOP_FILE=str(stop_file))
    try:
        time.sleep(moment)
        stop_file.touch()
        assert parent.wait(30) == ExitCode.PREEMPTED
    finally:
        end_all([parent])


def test_who_is_told_while_it_asks_a_store_that_is_away_waits_for_nothing(
    start: Start, spec: StepSpec
) -> None:
    parent = start(
        f"s3://bucket/store/{spec.key}/specs/raaaaaaa/000000.json",
        **NO_STORE,
    )
    try:
        first = first_process(parent)
        time.sleep(4)
        assert parent.poll() is None
        os.kill(first, signal.SIGTERM)
        assert parent.wait(5) == ExitCode.PREEMPTED
    finally:
        end_all([parent])
