"""The protocol of a step's state under attempts that overlap, and a store that fails them.

Every call to the store is a place where another attempt may run, the writer may be killed, the call
may fail, its write may come later, twice or with its answer lost, and a checkpoint may be damaged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from protocol.courses import MakeProtocol
from protocol.explore import Course, Run, drawn, explore, fails, one_turn
from protocol.holes import HOLES, Hole
from protocol.listing_protocol import ListingProtocol
from protocol.world import ANOTHER_ATTEMPT_RUNS

# How many courses it may take to come upon a fault that is there.
_MOST_COURSES = 3000


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_nothing_is_lost_or_mixed_up(run: Run, seed: int) -> None:
    num_courses = 4000 if seed else 250
    explore(run, (drawn(seed, number) for number in range(num_courses)))


@pytest.mark.parametrize("keep", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_later_attempt_may_begin_at_any_moment(run: Run, keep: int) -> None:
    plain = Course(keep, 0, late_last=False, schedule={})
    places = range(len(run(plain)[0]))
    switched = [{place: ANOTHER_ATTEMPT_RUNS} for place in places]
    explore(run, (Course(keep, 0, False, schedule) for schedule in switched))


@pytest.mark.slow
@pytest.mark.parametrize("roll_back_after", [0, 2])
def test_any_one_fault_at_any_moment(run: Run, roll_back_after: int) -> None:
    plain = Course(2, roll_back_after, late_last=True, schedule={})
    explore(run, one_turn(run, plain))


@pytest.mark.parametrize(("hole", "seed"), HOLES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_hole_in_the_protocol_is_found(
    run: Run, hole: Hole, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole(monkeypatch)
    assert _first_fault(run, seed, "")


@pytest.mark.parametrize(
    "told",
    [
        pytest.param("go on from different saves", id="ranks choose on their own"),
        pytest.param("committed, and attempt 2 had begun", id="check and then put a result"),
        pytest.param("was saved, and a later attempt had chosen", id="check and then save"),
        pytest.param("loaded, and had been rolled back", id="going back is not said"),
        pytest.param("is another one", id="a step saved again is skipped"),
    ],
)
def test_what_was_wrong_before_there_was_a_ledger_is_found(
    runner: Callable[[MakeProtocol], Run], told: str
) -> None:
    assert _first_fault(runner(ListingProtocol), 0, told)


def test_a_course_can_be_repeated(run: Run) -> None:
    assert [run(drawn(3, number)) for number in range(5)] == [
        run(drawn(3, number)) for number in range(5)
    ]


def _first_fault(run: Run, seed: int, told: str) -> str:
    """Return the first story that begins with a fault of that kind; empty: there is none."""
    stories = (fails(run, drawn(seed, number)) for number in range(_MOST_COURSES))
    found = (story for story in stories if story and told in story.splitlines()[0])
    return next(itertools.islice(found, 1), "")
