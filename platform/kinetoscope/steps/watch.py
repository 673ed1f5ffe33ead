"""Waiting for the ranks of a node until all have ended, whatever happens meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.ranks import Ranks

_POLL_SECONDS = 0.1
_BEAT_SECONDS = 2.0
# What the surviving ranks get when one has crashed: they may hang in a collective with it.
_CRASH_GRACE_SECONDS = 5.0
_DUMP_SECONDS = 1.0


def watch(
    ranks: Ranks,
    *,
    should_stop: Callable[[], bool],
    grace_seconds: float,
    beat: Callable[[], bool] = lambda: False,
) -> ExitCode:
    """Wait for the ranks; stop them when told to, when one crashed, or when all are stuck.

    Ranks are told by SIGTERM, and killed when their time is up.

    Args:
        ranks: that were started.
        should_stop: asked all the time, whether this process was told to stop.
        grace_seconds: that ranks get to save when they are told to stop.
        beat: called every two seconds, to keep the outside informed; tells whether the ranks are
            stuck. They then dump their stacks into their logs.

    Returns:
        The exit code of the node's ranks as a whole.
    """
    kill_at = float("inf")
    beat_at = 0.0
    stalled = False
    while ranks.are_running():
        now = time.monotonic()
        if now >= beat_at:
            beat_at = now + _BEAT_SECONDS
            stalled = beat() or stalled
        if not ranks.stop_sent and (should_stop() or ranks.one_failed() or stalled):
            if stalled:
                ranks.send(signal.SIGUSR1)
                time.sleep(_DUMP_SECONDS)
            short = stalled or ranks.one_failed()
            kill_at = now + (_CRASH_GRACE_SECONDS if short else grace_seconds)
            ranks.send(signal.SIGTERM)
        if now >= kill_at:
            ranks.send(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return ExitCode.STALLED if stalled else ranks.worst_code()
