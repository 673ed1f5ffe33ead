"""One training that is killed again and again, at drawn moments, and always started again."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass

from tiny.job import Job, wait_until
from tiny.training import lost

from kinetoscope.checkpoints.layout import MANIFEST, ROOT
from kinetoscope.core.uris import file_path
from kinetoscope.steps.contract import StepSpec

# What a start takes at least.
_START_SECONDS = 5.0


@dataclass(frozen=True)
class Kill:
    """What is killed, and when.

    Attributes:
        victim: ``rank``, ``supervisor`` or ``node``.
        number: of the rank in the job, or of the node.
        moment: ``starting``, ``training``, ``saving`` or ``saved``.
        steps: trained since the start, for ``training``.
        seconds: to wait then.
    """

    victim: str
    number: int
    moment: str
    steps: int
    seconds: float


def draw_kills(count: int, spec: StepSpec, *, seed: int = 1) -> list[Kill]:
    """Draw kills of a training."""
    draws = random.Random(seed)  # noqa: S311
    nodes, ranks = spec.runtime.num_nodes, spec.runtime.num_nodes * spec.runtime.num_processes
    kills = []
    for _ in range(count):
        victim = draws.choice(["rank", "supervisor", "node"])
        moment = draws.choices(["starting", "training", "saving", "saved"], [2, 5, 2, 1])[0]
        longest = {"starting": _START_SECONDS, "training": 0.1, "saving": 0.02, "saved": 0.02}
        kills.append(
            Kill(
                victim,
                draws.randrange(ranks if victim == "rank" else nodes),
                moment,
                steps=draws.randint(1, 15),
                seconds=draws.uniform(0, longest[moment]),
            )
        )
    return kills


def train_under_kills(job: Job, kills: list[Kill], undisturbed: StepSpec) -> list[str]:
    """Train to the end under kills; return what was lost, or done twice."""
    told: list[str] = []
    for number, kill in enumerate(kills):
        before = job.state.newest
        job.start()
        _reach(job, kill)
        trained = job.steps_trained()
        if job.has_ended():
            return [*told, f"{job.wait()}: it ended by itself before kill {number}: {kill}"]
        _strike(job, kill)
        job.wait()
        told += _check(job, kill, trained, before.step if before else 0)
    codes = job.finish()
    if any(codes):
        return [*told, f"it ended with {codes}"]
    return [*told, *lost(job.spec, undisturbed), *_runs_again(job)]


def _reach(job: Job, kill: Kill) -> None:
    began = job.state
    if kill.moment == "training":
        first = began.newest.step if began.newest else 0
        job.wait_for_steps(first + kill.steps)
    elif kill.moment == "saving":
        known = _folders(job)
        wait_until(lambda: job.has_ended() or bool(_folders(job) - known), 300)
    elif kill.moment == "saved":
        wait_until(lambda: job.has_ended() or job.state.newest != began.newest, 300)
    time.sleep(kill.seconds)


def _folders(job: Job) -> set[str]:
    """Return the checkpoints that are being written, or were left half written."""
    path = file_path(job.store.uri)
    assert path is not None
    folders = (path / ROOT).glob("*")
    return {folder.name for folder in folders if not (folder / MANIFEST).exists()}


def _strike(job: Job, kill: Kill) -> None:
    if kill.victim == "rank":
        job.signal_rank(kill.number, signal.SIGKILL)
        if kill.moment == "starting":  # there may have been no rank yet
            job.signal_node(0, signal.SIGKILL)
    elif kill.victim == "supervisor":
        job.nodes[kill.number].kill()
    else:
        job.signal_node(kill.number, signal.SIGKILL)


def _check(job: Job, kill: Kill, trained: int, before: int) -> list[str]:
    """Tell what a kill has cost that it may not cost."""
    every = job.spec.config["loop"]["checkpoint_every_steps"]
    kept = job.state.newest.step if job.state.newest else 0
    if kept < before:
        return [f"{kill}: step {before} was kept, and now {kept}"]
    # The interval's own step is trained before it is saved.
    if trained - kept > every:
        return [f"{kill}: step {trained} was trained, and only {kept} is kept"]
    return []


def _runs_again(job: Job) -> list[str]:
    """Start the step once more, which is done: nothing may happen."""
    number = job.state.number
    codes = job.finish()
    same = job.state.number == number and not any(codes)
    return [] if same else [f"a step that was done ran again, and ended with {codes}"]
