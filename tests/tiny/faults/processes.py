"""What happens to processes: they are killed, stopped, stuck, paused, superseded, out of time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tiny.faults.stage import Stage, shape
from tiny.faults.verdict import Verdict, unless, verdict
from tiny.job import Job
from tiny.ledgers import begin

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.ledger.entries import Ended
from kinetoscope.steps.ledger.ledger import Ledger

# A crash must be acted on within a minute.
_SOON_SECONDS = 60.0
_STALL_SECONDS = 45.0
_HOUR_SECONDS = 3600.0
_SHIFTED_CLOCK = """
import time
from pathlib import Path

_real, _shift = time.time, Path(__file__).with_name("shift")
time.time = lambda: _real() - float(_shift.read_text() or 0)
"""


def killed_rank(stage: Stage) -> Verdict:
    """One of two ranks is killed."""
    with stage.job("killed-rank", 2) as job:
        return _after(lambda: job.signal_rank(1, signal.SIGKILL), stage, job)


def power_cut(stage: Stage) -> Verdict:
    """The only machine fails right after a save: not even a row of metrics is lost."""
    with stage.job("power-cut") as job:
        job.start()
        job.wait_for_checkpoints()
        job.signal_node(0, signal.SIGKILL)
        job.wait()
        return verdict(stage.finish(job))


def killed_node(stage: Stage) -> Verdict:
    """All processes of one of two nodes are killed at once."""
    with stage.job("killed-node", num_nodes=2) as job:
        return _after(lambda: job.signal_node(1, signal.SIGKILL), stage, job)


def _after(strike: Callable[[], None], stage: Stage, job: Job) -> Verdict:
    """Tell how soon a job that has saved ends after a strike, and what is lost."""
    job.start()
    job.wait_for_checkpoints()
    strike()
    seconds = _time_to_end(job)
    return verdict(_soon(seconds), stage.finish(job), seconds=seconds)


def sigterm(stage: Stage) -> Verdict:
    """The supervisor is told to stop: it saves the step in progress, and no step is lost."""
    with stage.job("sigterm") as job:
        job.start()
        job.wait_for_steps(13)
        job.send(signal.SIGTERM)
        return verdict(*stopped(job), stage.finish(job))


def stopped(job: Job, seconds: float = 120) -> list[str]:
    """Tell what a training that was told to stop has lost."""
    trained = 0
    began = time.monotonic()
    while not job.has_ended() and time.monotonic() - began < seconds:
        trained = max(trained, job.steps_trained())
        time.sleep(0.02)
    codes, newest = job.wait(seconds), job.state.newest
    kept = newest.step if newest else 0
    return [
        unless(set(codes) == {ExitCode.PREEMPTED}, f"told to stop, it ended with {codes}"),
        unless(kept >= trained, f"of {trained} steps, {kept} are kept"),
    ]


def hang(stage: Stage) -> Verdict:
    """A rank does nothing any more."""
    with stage.job("hang", 2, stall_seconds=_STALL_SECONDS) as job:
        job.start()
        job.wait_for_checkpoints()
        job.signal_rank(1, signal.SIGSTOP)
        seconds = _time_to_end(job)
        codes = job.wait()
        return verdict(
            unless(codes == [ExitCode.STALLED], f"stuck, it ended with {codes}"),
            unless(seconds < _STALL_SECONDS + 30, f"acted on after {seconds:.0f} s"),
            stage.finish(job),
            seconds=seconds,
        )


def paused_tree(stage: Stage) -> Verdict:
    """All processes are paused for longer than a stall may last: nothing has happened."""
    with stage.job("paused", 2, stall_seconds=_STALL_SECONDS) as job:
        job.start()
        job.wait_for_checkpoints()
        job.signal_node(0, signal.SIGSTOP)
        time.sleep(2 * _STALL_SECONDS)
        job.signal_node(0, signal.SIGCONT)
        return verdict(stage.end(job, job.wait(300)), _one_attempt(job))


def older_generation_commits(stage: Stage) -> Verdict:
    """A machine that was frozen wakes up while its successor trains: it must add nothing."""
    with stage.job("older") as older, stage.job("older") as newer:
        older.start()
        older.wait_for_checkpoints()
        older.signal_node(0, signal.SIGSTOP)
        newer.start()
        newer.wait_for_checkpoints(2, seconds=180)
        older.signal_node(0, signal.SIGCONT)
        seconds = _time_to_end(older)
        return verdict(
            unless(all(older.wait()), "the older attempt ended as if it had done the step"),
            stage.end(newer, newer.wait(300)),
            unless(newer.state.generation == 2, f"{newer.state.generation} attempts, not 2"),
            seconds=seconds,
        )


def superseded_in_the_ledger(stage: Stage) -> Verdict:
    """A later attempt is in the ledger: the older one ends, and none of its saves counts."""
    with stage.job("superseded") as job:
        job.start()
        job.wait_for_checkpoints()
        generation = begin(job.store)
        number, seconds = job.state.number, _time_to_end(job)
        codes = job.wait()
        added = job.state.number - number
        Ledger(job.store).append(lambda _: Ended(code=1, steps=1), generation)
        return verdict(
            unless(all(codes), "the older attempt ended as if it had done the step"),
            unless(not added, f"the older attempt added {added} entries to the ledger"),
            stage.finish(job),
            seconds=seconds,
        )


def clock_back(stage: Stage) -> Verdict:
    """The clock is set back by an hour, in mid-training and for all that comes."""
    folder = stage.folder / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SHIFTED_CLOCK)
    (folder / "shift").write_text("0")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    job = Job(stage.spec("clock", shape(1)), PYTHONPATH=path)
    try:
        job.start()
        job.wait_for_checkpoints()
        (folder / "shift").write_text(str(_HOUR_SECONDS))
        job.wait_for_checkpoints(2)
        jumped = _went_back(job.folder())
        job.signal_node(0, signal.SIGKILL)
        job.wait()
        return verdict(unless(jumped, "the clock was not set back"), stage.finish(job))
    finally:
        job.close()


def _went_back(folder: Path | None) -> bool:
    assert folder is not None
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    times = [json.loads(line)["time"] for line in lines[:-1]]
    return bool(min(times[1:]) < times[0])


def _time_to_end(job: Job) -> float:
    """Wait until the first node has ended; return how long that took."""
    began = time.monotonic()
    while job.nodes[0].poll() is None and time.monotonic() - began < 5 * _SOON_SECONDS:
        time.sleep(0.05)
    return round(time.monotonic() - began, 1)


def _soon(seconds: float) -> str:
    return unless(seconds < _SOON_SECONDS, f"acted on after {seconds:.0f} s")


def _one_attempt(job: Job) -> str:
    generation = job.state.generation
    return unless(generation == 1, f"{generation} attempts, not one")
