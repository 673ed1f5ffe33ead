"""The ranks of one machine as child processes of this one, PID 1 of its pod."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.ranks import worst_code

_POLL_SECONDS = 0.1


def run_local_ranks(
    ranks: RankEnvironment, command: Sequence[str], *, grace_seconds: float
) -> ExitCode:
    """Start every local rank, pass SIGTERM on, and wait for all.

    When a rank fails, the others are told to stop, and killed when they have not ended
    ``grace_seconds`` later: they may wait for the lost one.

    Args:
        ranks: of the machine.
        command: after the interpreter.
        grace_seconds: between the failure of one rank and the killing of the others.

    Returns:
        The worst code that a rank ended with.
    """
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PET_")}
    children = [
        subprocess.Popen([sys.executable, *command], env=inherited | ranks.variables(local_rank))
        for local_rank in range(ranks.local_world_size)
    ]
    told = False
    deadline: float | None = None
    while any(child.poll() is None for child in children):
        failed = any(child.returncode not in (None, 0) for child in children)
        if (asked or failed) and not told:
            told = True
            _signal(children, signal.SIGTERM)
        if failed and deadline is None:
            deadline = time.monotonic() + grace_seconds
        if deadline is not None and time.monotonic() >= deadline:
            _signal(children, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return worst_code([child.returncode for child in children], stop_sent=bool(asked))


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
