"""Runs a small world under many schedules, and makes one that shows a fault small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from protocol.world import ANOTHER_ATTEMPT_RUNS, Schedule, ViolationError

# How often the world takes a turn at a place, and how many places it may come to.
_HOW_OFTEN = (0.01, 0.03, 0.06)
_MOST_PLACES = 400
# How often a later attempt begins while the first one is at work.
_HOW_OFTEN_TAKEN_OVER = 0.7
_PLACES_OF_AN_ATTEMPT = 60
_PLACES_OF_A_START = 30


@dataclass(frozen=True)
class Course:
    """One course of the world.

    Attributes:
        keep: checkpoints that stay.
        roll_back_after: step after which the first attempt goes back; 0: none.
        late_last: whether what is under way at the end arrives after the last attempt.
        schedule: turns that the world takes.
    """

    keep: int
    roll_back_after: int
    late_last: bool
    schedule: Schedule


Run = Callable[[Course], tuple[list[list[int]], list[str]]]
"""Runs a course; returns the numbers of the turns there were at each place, and the story.

Raises ``ViolationError`` with the story.
"""


def drawn(seed: int, number: int) -> Course:
    """Return one of many courses, always the same one."""
    random = Random(f"{seed}/{number}")  # noqa: S311 # no secret
    often = random.choice(_HOW_OFTEN)
    places = [place for place in range(_MOST_PLACES) if random.random() < often]
    schedule = {place: random.randrange(1 << 20) for place in places}
    if random.random() < _HOW_OFTEN_TAKEN_OVER:
        place = random.randrange(_PLACES_OF_AN_ATTEMPT)
        schedule[place] = ANOTHER_ATTEMPT_RUNS
        # What it meets first, while it looks for where to go on, matters most.
        schedule[place + random.randint(1, _PLACES_OF_A_START)] = random.randrange(1 << 20)
    return Course(
        keep=random.choice([1, 2]),
        roll_back_after=random.choice([0, 0, 1, 2]),
        late_last=random.random() < 0.5,
        schedule=schedule,
    )


def one_turn(run: Run, plain: Course) -> Iterator[Course]:
    """Yield all courses that differ from a plain one by one turn."""
    turns, _ = run(plain)
    for place, numbers in enumerate(turns):
        for number in numbers:
            yield replace(plain, schedule={**plain.schedule, place: number})


def explore(run: Run, courses: Iterator[Course]) -> int:
    """Run courses; return how many. Raises ``AssertionError`` with the story of a fault."""
    count = 0
    for course in courses:
        count += 1
        if fails(run, course):
            small = smaller(run, course)
            raise AssertionError(f"course {count}: {small}\n{fails(run, small)}")
    return count


def fails(run: Run, course: Course) -> str:
    """Return the story of the fault that a course shows; empty: it shows none."""
    try:
        run(course)
    except ViolationError as error:
        return str(error)
    return ""


def smaller(run: Run, course: Course) -> Course:
    """Return a course that still shows a fault, and of which no single turn can be left out."""
    for place in sorted(course.schedule):
        rest = {other: turn for other, turn in course.schedule.items() if other != place}
        fewer = replace(course, schedule=rest)
        if fails(run, fewer):
            return smaller(run, fewer)
    return course
