from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.data.prepare.guarded_pool import Casualty, GuardedPool

# Workers are spawned: what they run has to be importable by name.
PROGRAM = """
import os, sys, time
from kinetoscope.data.prepare.guarded_pool import GuardedPool
if __name__ == "__main__":
    with GuardedPool(time.sleep, 2, 60.0) as pool:
        for outcome in pool.run([30.0, 30.0]):
            print(os.getpid(), flush=True)
"""


def results(pool: GuardedPool[Any, Any], tasks: Iterable[Any]) -> dict[Any, Any]:
    return dict(done for done in pool.run(tasks) if done is not None)


def test_every_task_has_its_result() -> None:
    pool: GuardedPool[int, int] = GuardedPool(abs, 2, 60.0)
    with pool:
        assert results(pool, [-1, 2, -3, 4, -5]) == {-1: 1, 2: 2, -3: 3, 4: 4, -5: 5}
    assert not [child for child in psutil.Process().children() if "spawn_main" in str(child)]


def test_a_worker_waits_for_tasks_that_come_late() -> None:
    pool: GuardedPool[int, int] = GuardedPool(abs, 2, 60.0)
    with pool:
        assert results(pool, [None, -1, None, None, -2, None]) == {-1: 1, -2: 2}


def test_tasks_that_are_settled_without_a_worker_cost_no_waiting() -> None:
    pool: GuardedPool[int, int] = GuardedPool(abs, 2, 60.0)
    began = time.monotonic()
    with pool:
        assert results(pool, [None] * 10_000) == {}
    assert time.monotonic() - began < 5


def _exit(code: int) -> None:
    os._exit(code)


def test_a_worker_that_dies_costs_one_task() -> None:
    pool: GuardedPool[int, Any] = GuardedPool(_exit, 1, 60.0)
    with pool:
        outcomes = results(pool, [3, 4])
    assert outcomes == {3: Casualty(False, 3), 4: Casualty(False, 4)}


def test_a_task_that_hangs_is_killed() -> None:
    started = time.monotonic()
    with GuardedPool(time.sleep, 1, 1.0) as pool:
        outcomes = results(pool, [60.0, 0.0])
    assert outcomes == {60.0: Casualty(True, -signal.SIGKILL), 0.0: None}
    assert time.monotonic() - started < 30


def _fill_memory(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def test_a_worker_that_takes_too_much_memory_costs_one_task() -> None:
    pool: GuardedPool[int, Any] = GuardedPool(_fill_memory, 1, 60.0, memory_bytes=2**30)
    with pool:
        outcomes = results(pool, [2**31, 1000])
    assert outcomes[2**31].out_of_memory
    assert outcomes[1000] == 1000


class OddError(Exception):
    """Can be pickled, but not read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def _raise_oddly(kind: str) -> None:
    if kind == "unreadable":
        raise OddError("a", "b")
    error = ValueError("c")
    error.__dict__["lock"] = threading.Lock()
    raise error


@pytest.mark.parametrize(
    ("kind", "told"), [("unreadable", "OddError: ab"), ("unpicklable", "ValueError: c")]
)
def test_an_exception_that_can_not_be_sent_is_told_in_words(kind: str, told: str) -> None:
    pool: GuardedPool[Any, Any] = GuardedPool(_raise_oddly, 1, 60.0)
    with pytest.raises(KinetoscopeError, match=told), pool:
        results(pool, [kind])


def test_an_exception_is_raised_here() -> None:
    pool: GuardedPool[Any, Any] = GuardedPool(abs, 1, 60.0)
    with pytest.raises(TypeError, match="bad operand"), pool:
        results(pool, ["x"])


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
        parent.kill()
        _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
