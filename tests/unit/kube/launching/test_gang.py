"""When half a gang lets its GPUs go."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.jobs.suspension import Suspension
from kinetoscope.kube.launching.gang import Gang


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pod(rank: int, *, node: str = "node-1", phase: str = "Running") -> PodState:
    return PodState(f"p{rank}", f"p{rank}", rank, 0, phase, False, None, "", "", node=node)


def seen(*pods: PodState, kinds: tuple[str, ...] = (), state: str = "pending") -> Observation:
    reasons = tuple(Reason(kind, "pod p1", "why") for kind in kinds)
    return Observation(state, pods, reasons)  # type: ignore[arg-type]


HALF = seen(pod(0), pod(1, node="", phase="Pending"), kinds=("unschedulable",))
PULLING = seen(pod(0), pod(1, phase="Pending"))
SCALING = seen(pod(0), pod(1, node="", phase="Pending"), kinds=("unschedulable", "scaling"))
NONE_HOLDS = seen(pod(0, node="", phase="Pending"), kinds=("unschedulable",))
RUNNING = seen(pod(0), pod(1), state="running")
NO_IMAGE = seen(pod(0, phase="Pending"), kinds=("image",))
NO_SECOND_POD = seen(pod(0), kinds=("quota",))


@pytest.mark.parametrize("stuck", [HALF, NO_IMAGE, NO_SECOND_POD])
def test_half_a_gang_waits_for_so_long_and_no_longer(stuck: Observation) -> None:
    clock = Clock()
    gang = Gang(10, clock)
    assert not gang.has_waited_too_long(stuck)
    clock.now += 599
    assert not gang.has_waited_too_long(stuck)
    clock.now += 1
    assert gang.has_waited_too_long(stuck)


@pytest.mark.parametrize("fine", [PULLING, SCALING, NONE_HOLDS, RUNNING])
def test_images_and_nodes_on_their_way_and_whole_gangs_take_what_they_take(
    fine: Observation,
) -> None:
    clock = Clock()
    gang = Gang(10, clock)
    assert not gang.has_waited_too_long(HALF)
    clock.now += 599
    assert not gang.has_waited_too_long(fine)
    clock.now += 5000
    assert not gang.has_waited_too_long(fine)
    assert not gang.has_waited_too_long(HALF), "the time begins anew"


def test_silence_of_the_api_neither_counts_nor_starts_anew() -> None:
    clock = Clock()
    gang = Gang(10, clock)
    gang.has_waited_too_long(HALF)
    clock.now += 300
    assert not gang.has_waited_too_long(seen(state="unknown"))
    clock.now += 300
    assert gang.has_waited_too_long(HALF)


def test_no_rule_where_none_is_wanted() -> None:
    clock = Clock()
    gang = Gang(0, clock)
    gang.has_waited_too_long(HALF)
    clock.now += 1e6
    assert not gang.has_waited_too_long(HALF)


def test_two_gangs_that_let_go_together_do_not_come_back_together() -> None:
    pauses = sorted(Gang(10).pause_seconds() for _ in range(20))
    assert 600 <= pauses[0] <= pauses[-1] <= 1200
    assert any(later - earlier > 1 for earlier, later in pairwise(pauses))


@pytest.mark.parametrize("ahead", [-36_000, 36_000, 0])
def test_a_pause_ends_in_time_whatever_the_clock_of_who_began_it(ahead: float) -> None:
    clock = Clock()
    gang = Gang(10, clock)
    at = time.time() + ahead
    pause = Suspension("ada", "why", "gang", at, at + 600)
    gang.has_paused(pause)
    clock.now += 601
    assert gang.has_paused(pause)


def test_a_pause_lasts_where_clocks_agree() -> None:
    clock = Clock()
    gang = Gang(10, clock)
    now = time.time()
    assert not gang.has_paused(Suspension("ada", "why", "gang", now, now + 600))
    clock.now += 599
    later = Suspension("ada", "why", "gang", now + 1, now + 601)
    assert not gang.has_paused(later), "each pause has its own time"
