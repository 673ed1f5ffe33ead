"""What becomes of real rank processes that are watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.rank_environment import one_node
from kinetoscope.steps.ranks import Ranks
from kinetoscope.steps.watch import Stall, watch

StartRanks = Callable[..., Ranks]

RANK = """
import faulthandler, os, signal, sys, time
faulthandler.register(signal.SIGUSR1, all_threads=True)
what = sys.argv[1 + min(int(os.environ["RANK"]), len(sys.argv) - 2)]
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "polite":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print(what, flush=True)
if what == "fails":
    sys.exit(1)
if what == "loses":
    sys.exit(78)
if what == "out-of-memory":
    os.kill(os.getpid(), signal.SIGKILL)
if what != "ends":
    time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartRanks]:
    """Start ranks that do what their arguments say, one word per rank; they are up on return."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "rank.py").write_text(RANK)
    with ExitStack() as stack:

        def start(*what: str) -> Ranks:
            node, logs = one_node(len(what)), tmp_path / "logs"
            ranks = stack.enter_context(closing(Ranks(["rank", *what], node, logs=logs)))
            deadline = time.monotonic() + 60
            for rank in range(len(what)):
                while not (logs / f"rank-{rank}.log").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            return ranks

        yield start


def never() -> bool:
    return False


def at_once() -> bool:
    return True


def test_ranks_that_end_are_done(start: StartRanks) -> None:
    assert watch(start("ends", "ends"), should_stop=never, grace_seconds=60) == ExitCode.DONE


def test_told_to_stop_ranks_get_their_grace(start: StartRanks) -> None:
    ranks = start("polite", "polite")
    assert watch(ranks, should_stop=at_once, grace_seconds=60) == ExitCode.PREEMPTED
    assert ranks.codes() == [75, 75]


def test_a_rank_that_does_not_stop_in_its_grace_is_killed(start: StartRanks) -> None:
    ranks = start("polite", "deaf")
    assert watch(ranks, should_stop=at_once, grace_seconds=0.5) == ExitCode.FAILED
    assert ranks.codes() == [75, -9]


def test_a_rank_that_fails_takes_even_deaf_ones_with_it_soon(start: StartRanks) -> None:
    ranks = start("fails", "deaf")
    assert watch(ranks, should_stop=never, grace_seconds=600) == ExitCode.FAILED
    assert ranks.codes() == [1, -9]


@pytest.mark.parametrize("other", ["deaf", "polite", "sleeps"])
def test_what_a_lost_peer_makes_us_end_is_no_other_cause(start: StartRanks, other: str) -> None:
    ranks = start("loses", other)
    assert watch(ranks, should_stop=never, grace_seconds=600) == ExitCode.LOST_PEER


def test_a_rank_that_others_killed_is_a_cause(start: StartRanks) -> None:
    ranks = start("out-of-memory", "loses", "deaf")
    assert watch(ranks, should_stop=never, grace_seconds=600) == ExitCode.FAILED


def test_who_is_told_to_stop_is_stopped_whoever_is_lost_then(start: StartRanks) -> None:
    ranks = start("loses", "polite")
    assert watch(ranks, should_stop=at_once, grace_seconds=60) == ExitCode.PREEMPTED
    ranks = start("sleeps", "polite")
    assert watch(ranks, should_stop=at_once, grace_seconds=60) == ExitCode.PREEMPTED


def test_ranks_that_are_stuck_dump_their_stacks_and_stop(start: StartRanks, tmp_path: Path) -> None:
    ranks = start("sleeps")
    code = watch(ranks, should_stop=never, grace_seconds=600, is_stuck=lambda _: True)
    assert code == ExitCode.STALLED
    assert f"{os.sep}rank.py" in (tmp_path / "logs" / "rank-0.log").read_text()


def test_what_goes_wrong_beside_it_ends_the_watch(start: StartRanks) -> None:
    def is_stuck(_: float) -> bool:
        raise OSError("no way to tell")

    with pytest.raises(OSError, match="no way to tell"):
        watch(start("sleeps"), should_stop=never, grace_seconds=60, is_stuck=is_stuck)


CLOCK = """
import time
from kinetoscope.steps.watch import WorkingClock
clock, began = WorkingClock(), time.monotonic()
print("begun", flush=True)
while time.monotonic() - began < 7:
    clock.look()
    time.sleep(0.05)
print(clock.look(), time.monotonic() - began)
"""


def test_a_pause_of_the_whole_process_is_no_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", CLOCK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    awake, passed = map(float, process.communicate(timeout=30)[0].split())
    assert awake < passed - 2.5


def test_a_stall_is_told_by_what_changes_not_by_what_clocks_say(tmp_path: Path) -> None:
    mark = tmp_path / "progress.json"
    stall = Stall([mark], 10)
    assert not stall.is_stuck(9)
    mark.write_text("1")
    os.utime(mark, (1, 1))  # an hour ago, or by a clock that was set back
    assert not stall.is_stuck(9.5)
    assert not stall.is_stuck(19)
    mark.write_text("22")
    os.utime(mark, (2**31, 2**31))
    assert not stall.is_stuck(19.8)
    assert stall.is_stuck(30)
    assert not Stall([mark], 0).is_stuck(10**9)
