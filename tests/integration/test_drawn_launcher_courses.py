"""Launchers of several runs and starts through what is drawn by chance: nothing is lost or left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny.kube_api import TRAIN_JOBS
from tiny.launchings import Launching, Stage, hurry

from kinetoscope.core.errors import ExitCode, SupersededError
from kinetoscope.steps.contract import stop_requested

_PAUSES = (0.02, 0.1, 0.4, 1.0)


@dataclass
class Course:
    """What happens to launchers, and in which order."""

    stage: Stage
    chance: random.Random
    latest: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def launch(self, run_id: str, start: int) -> None:
        self.latest[run_id] = start
        self.told.append(f"launch {run_id}/{start}")
        self.stage.launch(run_id, start)

    def another_run(self) -> None:
        if len(self.latest) < 2:
            self.launch(self.chance.choice(["rbbbbbbb", "rccccccc"]), 1)

    def resume(self) -> None:
        run_id = self._run()
        self.launch(run_id, self.latest[run_id] + 1)

    def twin(self) -> None:
        run_id = self._run()
        self.launch(run_id, self.latest[run_id])

    def kill(self) -> None:
        for one in self._some():
            one.kill()

    def stop(self) -> None:
        for one in self._some():
            self.stage.stop(one.spec.start, one.spec.run_id)

    def delete(self) -> None:
        in_foreground = self.chance.random() < 0.5
        for path in self._jobs():
            self.stage.cluster.remove(path, in_foreground=in_foreground)

    def suspend_a_while(self) -> None:
        for path in self._jobs():
            for value in (True, False):
                self.stage.cluster.patch(path, {"spec": {"suspend": value}})
                time.sleep(0.5)

    def lose_answers(self) -> None:
        self.stage.cluster.faults.lost = self.chance.choice([0, 0.1])

    def answer_late(self) -> None:
        self.stage.cluster.faults.slow_seconds = self.chance.choice([0, 0.1])

    def be_away(self) -> None:
        self.stage.cluster.faults.away = True
        time.sleep(self.chance.random())
        self.stage.cluster.faults.away = False

    def forbid(self) -> None:
        self.stage.cluster.faults.forbidden = True
        time.sleep(self.chance.random())
        self.stage.cluster.faults.forbidden = False

    def take_a_place(self) -> None:
        faults = self.stage.cluster.faults
        faults.unschedulable = not faults.unschedulable

    def heal(self) -> None:
        """Let all be well, and each run that is wanted have a launcher of its latest start."""
        faults = self.stage.cluster.faults
        faults.lost, faults.slow_seconds, faults.unschedulable = 0, 0, False
        for run_id, start in self.latest.items():
            own = [x for x in self.stage.launchings if x.claim == f"{run_id}/{start}"]
            lives = any(one.is_at_work and not one.is_killed.is_set() for one in own)
            if not lives and not stop_requested(own[0].spec) and not self.stage.state.result:
                self.launch(run_id, start)

    def _run(self) -> str:
        return self.chance.choice(list(self.latest))

    def _some(self) -> list[Launching]:
        alive = [one for one in self.stage.launchings if one.is_at_work]
        drawn = [self.chance.choice(alive)] if alive else []
        self.told += [one.claim for one in drawn]
        return drawn

    def _jobs(self) -> list[str]:
        return [
            f"{TRAIN_JOBS}/{job['metadata']['name']}" for job in self.stage.cluster.train_jobs()
        ]


_WHAT: tuple[Callable[[Course], None], ...] = (
    Course.another_run,
    Course.resume,
    Course.twin,
    Course.kill,
    Course.stop,
    Course.delete,
    Course.suspend_a_while,
    Course.lose_answers,
    Course.answer_late,
    Course.be_away,
    Course.forbid,
    Course.take_a_place,
)


def run_a_course(folder: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    with Stage(folder, seed=seed, num_parts=60).open() as stage:
        course = Course(stage, chance)
        course.launch("raaaaaaa", 1)
        for _ in range(chance.randrange(5, 14)):
            time.sleep(chance.choice(_PAUSES))
            what = chance.choice(_WHAT)
            course.told.append(what.__name__)
            what(course)
        course.heal()
        stage.wait_for_end()
        known = f"seed {seed}: {course.told}\n{stage.told()}"
        assert stage.cluster.wrongs == [], known
        killed = [one for one in stage.launchings if one.is_killed.is_set()]
        for one in stage.launchings:
            assert one in killed or _is_right(one, course), f"{one.claim}: {one.ended!r}\n{known}"
        assert killed or stage.cluster.train_jobs() == [], known


def _is_right(one: Launching, course: Course) -> bool:
    if one.ended == ExitCode.DONE:
        return course.stage.state.result is not None
    if isinstance(one.ended, SupersededError):
        return course.latest[one.spec.run_id] > one.spec.start
    return one.ended == ExitCode.PREEMPTED and stop_requested(one.spec)


@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_course_loses_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    hurry(monkeypatch)
    run_a_course(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_drawn_courses_lose_nothing_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    for seed in range(100, 140):
        run_a_course(tmp_path / str(seed), seed)
