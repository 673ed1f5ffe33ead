"""Waiting for the ranks of a node until all have ended, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.ranks import Ranks

_POLL_SECONDS = 0.1
# What the surviving ranks get when one has crashed: they may hang in a collective with it.
_CRASH_GRACE_SECONDS = 5.0
_DUMP_SECONDS = 1.0
# Longer than anything between two looks takes: what goes beyond was a pause.
_LONGEST_LOOK_SECONDS = 3.0


class WorkingClock:
    """Seconds that this process was awake.

    A laptop whose lid was closed, or a tree of processes that was stopped, has lost no time: nobody
    could have made progress, or saved, meanwhile.
    """

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._seconds = 0.0

    def look(self) -> float:
        """Return the time; to be called at least every second."""
        now = time.monotonic()
        self._seconds += min(now - self._looked_at, _LONGEST_LOOK_SECONDS)
        self._looked_at = now
        return self._seconds


class Stall:
    """Tells whether files that ranks write have not changed for too long.

    What counts is that they change, as seen from here: clocks of file systems differ, and jump.

    Args:
        marks: files that change whenever something was done.
        seconds: the longest time without a change; 0 is for ever.
    """

    def __init__(self, marks: Sequence[Path], seconds: float) -> None:
        self._marks = marks
        self._seconds = seconds
        self._seen: list[tuple[int, int]] = []
        self._changed_at = 0.0

    def is_stuck(self, now: float) -> bool:
        """Look at the files at a time of a `WorkingClock`."""
        seen = [(s.st_mtime_ns, s.st_size) for s in map(_stat, self._marks) if s is not None]
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        return bool(self._seconds) and now - self._changed_at > self._seconds


def watch(
    ranks: Ranks,
    *,
    should_stop: Callable[[], bool],
    grace_seconds: float,
    is_stuck: Callable[[float], bool] = lambda now: False,  # noqa: ARG005
) -> ExitCode:
    """Wait for the ranks; stop them when told to, when one crashed, or when all are stuck.

    Ranks are told by SIGTERM, and killed when their time is up. What is called here must not wait
    for anything.

    Args:
        ranks: that were started.
        should_stop: asked all the time, whether this process was told to stop.
        grace_seconds: that ranks get to save when they are told to stop.
        is_stuck: asked all the time, with the time of a `WorkingClock`. Ranks that are stuck dump
            their stacks into their logs.

    Returns:
        The exit code of the node's ranks as a whole.
    """
    clock = WorkingClock()
    kill_at = float("inf")
    stalled = told = False
    while ranks.are_running():
        now = clock.look()
        stalled = is_stuck(now) or stalled
        told = should_stop() or told
        if not ranks.stop_sent and (told or ranks.one_failed() or stalled):
            if stalled:
                ranks.send(signal.SIGUSR1)
                time.sleep(_DUMP_SECONDS)
            short = stalled or ranks.one_failed()
            kill_at = clock.look() + (_CRASH_GRACE_SECONDS if short else grace_seconds)
            ranks.send(signal.SIGTERM)
        if now >= kill_at:
            ranks.send(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return ExitCode.STALLED if stalled else ranks.worst_code(told_to_stop=told)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
