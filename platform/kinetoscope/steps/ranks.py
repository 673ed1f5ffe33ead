"""The rank processes of one node: start them, pass signals on, sum up how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.machine_limits import usable_cores
from kinetoscope.steps.lifeline import LIFELINE
from kinetoscope.steps.rank_environment import LOOPBACK, RankEnvironment

# The first of these that any rank ended with is the attempt's own.
_WORST_FIRST = (
    ExitCode.USER_ERROR,
    ExitCode.DIVERGED,
    ExitCode.DISK_FULL,
    ExitCode.STALLED,
    ExitCode.FAILED,
    ExitCode.WITHDRAWN,
)
# What was told to this process alone; a rank that read it would take itself for the whole node.
_OF_THE_STARTER = ("_KFP_RUNTIME", "PET_")


class Ranks:
    """The processes of a node's ranks, of which the job may have more on other nodes.

    Args:
        command: module and its arguments, for ``python -m``.
        node: of this process, which ranks it has and where rank 0 is met.
        variables: further environment variables of every rank.
        logs: folder of ``rank-N.log``, N counted in the whole job; None: the ranks write to this
            process's stdout and stderr.
        threads: CPU threads of each rank; 0 shares the cores that this process may use evenly.
    """

    def __init__(
        self,
        command: Sequence[str],
        node: RankEnvironment,
        *,
        variables: Mapping[str, str] | None = None,
        logs: Path | None = None,
        threads: int = 0,
    ) -> None:
        self.stop_sent = False
        self._sent: set[tuple[int, int]] = set()
        self._lifeline: tuple[int, ...] = os.pipe()
        # Nodes that meet on this machine share its cores.
        here = node.world_size if node.master_address == LOOPBACK else node.local_world_size
        environment = _inherited() | _thread_variables(threads, here)
        environment |= {LIFELINE: str(self._lifeline[0]), **(variables or {})}
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        self.numbers = [node.first_rank + local_rank for local_rank in node.local_ranks]
        self._processes: list[subprocess.Popen[bytes]] = []
        for local_rank in node.local_ranks:
            own = environment | node.variables(local_rank)
            if logs is None:
                self._processes.append(self._start(command, own, None))
            else:
                with (logs / f"rank-{own['RANK']}.log").open("ab") as log:
                    self._processes.append(self._start(command, own, log))

    def codes(self) -> list[int | None]:
        """Return each rank's exit code, negative for a signal, None while it runs."""
        return [process.poll() for process in self._processes]

    def are_running(self) -> bool:
        """Tell whether any rank still runs."""
        return any(code is None for code in self.codes())

    def one_failed(self) -> bool:
        """Tell whether a rank ended badly while others still run."""
        return any(code not in (None, 0) for code in self.codes())

    def send(self, signum: int) -> None:
        """Send a signal to the ranks that still run."""
        if signum == signal.SIGTERM:
            self.stop_sent = True
        for process in self._processes:
            if process.poll() is None:
                self._sent.add((process.pid, signum))
                process.send_signal(signum)

    def worst_code(self, *, told_to_stop: bool) -> ExitCode:
        """Return the exit code of all ranks; `worst_code` has the rules.

        A rank that one of our own signals ended had nothing to save yet where all were told to
        stop, or lost its peers where another had failed.
        """
        codes = self.codes()
        for index, process in enumerate(self._processes):
            code = codes[index]
            if code is not None and (process.pid, -code) in self._sent:
                if not told_to_stop:
                    codes[index] = ExitCode.LOST_PEER
                elif code == -signal.SIGTERM:
                    codes[index] = ExitCode.PREEMPTED
        return worst_code(codes, told_to_stop=told_to_stop)

    def own_ends(self) -> dict[int, int]:
        """Return the codes, by number, of the ranks that have ended, and not by a signal of ours.

        Numbers count in the whole job; a negative code is a signal.
        """
        ended = zip(self.numbers, self._processes, strict=True)
        codes = {number: (process.pid, process.poll()) for number, process in ended}
        return {
            number: code
            for number, (pid, code) in codes.items()
            if code is not None and (pid, -code) not in self._sent
        }

    def close(self) -> None:
        """Kill what still runs and reap all."""
        self.send(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        for end in self._lifeline:
            os.close(end)
        self._lifeline = ()

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], log: BinaryIO | None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            pass_fds=(self._lifeline[0],),
        )


def worst_code(codes: Iterable[int | None], *, told_to_stop: bool) -> ExitCode:
    """Return the one exit code that those of ranks, or of nodes, come to.

    A lost peer is what other ends lead to, so each real cause goes before it. So does a stop that
    somebody asked for: a step that was told to stop is not started again. Where nobody did, a rank
    stopped because its node's had to after one lost its peer.

    Args:
        codes: negative for a signal.
        told_to_stop: whether somebody, other than the ranks' own starter, told them to stop.
    """
    ended = {code if code in set(ExitCode) else ExitCode.FAILED for code in codes if code}
    least = [ExitCode.PREEMPTED, ExitCode.LOST_PEER]
    order = (*_WORST_FIRST, *(least if told_to_stop else reversed(least)))
    return next((code for code in order if code in ended), ExitCode.DONE)


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(_OF_THE_STARTER)}


def _thread_variables(threads: int, num_ranks: int) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads or max(1, int(usable_cores()) // num_ranks)),
        # libgomp's threads spin for milliseconds before they sleep, and starve each other where
        # cores are shared: beside two busy processes on two cores, 30 instead of 4 steps a second
        # (a small VAE); on idle cores no slower.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        "PYTHONUNBUFFERED": "1",
    }
