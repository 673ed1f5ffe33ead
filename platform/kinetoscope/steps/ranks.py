"""The processes of one attempt: start them, pass signals on, sum up how they ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import StepSpec

# The first of these that any rank ended with is the attempt's own.
_WORST_FIRST = (
    ExitCode.USER_ERROR,
    ExitCode.DIVERGED,
    ExitCode.STALLED,
    ExitCode.FAILED,
    ExitCode.PREEMPTED,
)


class Ranks:
    """The worker processes of one attempt on this machine."""

    def __init__(
        self, spec: StepSpec, *, spec_uri: str, generation: int, attempt_path: Path
    ) -> None:
        self.stop_sent = False
        self._lifeline: tuple[int, ...] = os.pipe()
        logs = attempt_path / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environment = _environment(spec) | {
            "KINO_SPEC_URI": spec_uri,
            "KINO_GENERATION": str(generation),
            "KINO_ATTEMPT_PATH": str(attempt_path),
            "KINO_LIFELINE": str(self._lifeline[0]),
        }
        self._processes = []
        for rank in range(spec.runtime.num_processes):
            with (logs / f"rank-{rank}.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", spec.worker],
                    env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(self._lifeline[0],),
                )
            self._processes.append(process)

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
                process.send_signal(signum)

    def worst_code(self) -> ExitCode:
        """Return the attempt's exit code."""
        return worst_code(self.codes(), stop_sent=self.stop_sent)

    def close(self) -> None:
        """Kill what still runs and reap all."""
        self.send(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        for end in self._lifeline:
            os.close(end)
        self._lifeline = ()


def worst_code(codes: Iterable[int | None], *, stop_sent: bool) -> ExitCode:
    """Return the one exit code that ranks' codes come to.

    Args:
        codes: negative for a signal.
        stop_sent: whether they were told to stop; a rank that this killed had nothing to save yet.
    """
    ended: set[int] = set()
    for code in codes:
        if code == -signal.SIGTERM and stop_sent:
            ended.add(ExitCode.PREEMPTED)
        elif code:
            ended.add(code if code in set(ExitCode) else ExitCode.FAILED)
    return next((code for code in _WORST_FIRST if code in ended), ExitCode.DONE)


def _environment(spec: StepSpec) -> dict[str, str]:
    num = spec.runtime.num_processes
    threads = spec.runtime.threads_per_process or max(1, (os.cpu_count() or 1) // num)
    inherited = {key: value for key, value in os.environ.items() if key != "_KFP_RUNTIME"}
    return inherited | {
        "WORLD_SIZE": str(num),
        "LOCAL_WORLD_SIZE": str(num),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": str(threads),
        # libgomp's threads spin for milliseconds before they sleep, and starve each other where
        # cores are shared: beside two busy processes on two cores, 30 instead of 4 steps a second
        # (a small VAE); on idle cores no slower.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
