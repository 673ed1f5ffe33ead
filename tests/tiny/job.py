"""The processes of a step's attempt, which can be killed, paused and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

from kinetoscope.core.settings import workspace
from kinetoscope.steps.contract import StepSpec, write_spec
from kinetoscope.steps.ledger.entries import LedgerState
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.rank_environment import LOOPBACK, free_port
from kinetoscope.steps.results import step_state
from kinetoscope.storage.open import open_store

# What the other nodes get to end by themselves when one has; then they are told to.
_NOTICE_SECONDS = 50.0


class Job:
    """Runs a step as a JobSet does: a process for every node, all of them anew when one failed.

    Each node has a process group of its own, so that it can be killed as a machine fails: whole.

    Args:
        spec: of the step.
        environment: variables of its processes beside those of this one.
    """

    def __init__(self, spec: StepSpec, **environment: str) -> None:
        self.spec = spec
        self._environment = os.environ | environment
        self.store = open_store(spec.uri)
        self.nodes: list[subprocess.Popen[bytes]] = []

    @property
    def state(self) -> LedgerState:
        """What the step's ledger comes to now."""
        return step_state(self.spec.uri)

    def start(self) -> None:
        """Start the supervisors of all nodes; again, as people do, where that alone helps."""
        if self.state.in_vain(self.spec.run_id, self.spec.start) > 1:
            self.spec = self.spec.model_copy(update={"start": self.spec.start + 1})
        command = [sys.executable, "-m", "kinetoscope.steps.supervisor", write_spec(self.spec)]
        environments = self._environments()
        self.nodes = [
            subprocess.Popen(command, env=own, stderr=subprocess.DEVNULL, start_new_session=True)
            for own in environments
        ]

    def finish(self, seconds: float = 300) -> list[int]:
        """Start it and wait for its end; return the exit codes of the nodes."""
        self.start()
        return self.wait(seconds)

    def wait(self, seconds: float = 120) -> list[int]:
        """Wait until all nodes have ended, perhaps since one was killed; return their codes."""
        deadline = time.monotonic() + seconds
        told = False
        while any(node.poll() is None for node in self.nodes):
            assert time.monotonic() < deadline, "it does not end"
            if not told and any(node.poll() not in (None, 0) for node in self.nodes):
                told, tell_at = True, time.monotonic() + _NOTICE_SECONDS
            if told and time.monotonic() > tell_at:
                self.send(signal.SIGTERM)
                tell_at = float("inf")
            time.sleep(0.05)
        wait_until(lambda: not any(self._group(node) for node in self.nodes), 30)
        return [node.returncode for node in self.nodes]

    def send(self, signum: int) -> None:
        """Send a signal to the supervisors that still run."""
        for node in self.nodes:
            if node.poll() is None:
                node.send_signal(signum)

    def signal_node(self, number: int, signum: int) -> None:
        """Send a signal to all processes of a node."""
        with suppress(ProcessLookupError):
            os.killpg(self.nodes[number].pid, signum)

    def signal_rank(self, rank: int, signum: int) -> None:
        """Send a signal to a rank, if it runs already."""
        for process in self.ranks():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if process.environ().get("RANK") == str(rank):
                    process.send_signal(signum)

    def ranks(self) -> list[psutil.Process]:
        """Return the processes of all ranks that run now."""
        found: list[psutil.Process] = []
        for node in self.nodes:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(node.pid).children()
        return found

    def close(self) -> None:
        """Kill what is left."""
        for number in range(len(self.nodes)):
            self.signal_node(number, signal.SIGKILL)
            self.nodes[number].wait()

    def steps_trained(self) -> int:
        """Return the number of the last step of which this attempt has a row of metrics."""
        folder = self.folder()
        path = folder / "metrics.jsonl" if folder is not None else None
        if path is None or not path.exists():
            return 0
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
        return int(lines[-1].partition(b'"step": ')[2].partition(b",")[0]) if lines else 0

    def wait_for_steps(self, step: int, seconds: float = 300) -> None:
        """Wait until a step is trained; its training may end before."""
        wait_until(lambda: self.has_ended() or self.steps_trained() >= step, seconds)

    def wait_for_checkpoints(self, count: int = 1, seconds: float = 300) -> None:
        """Wait until so many checkpoints have been saved, by whatever attempt."""
        wait_until(lambda: self.has_ended() or len(self.state.checkpoints) >= count, seconds)

    def has_ended(self) -> bool:
        """Tell whether a node has ended."""
        return any(node.poll() is not None for node in self.nodes)

    def folder(self) -> Path | None:
        """Return the folder of what the first node's ranks leave, once it is there."""
        for note in workspace().scratch_path.glob("*-node-0-*/owner.json"):
            with suppress(OSError):
                if ProcessIdentity.from_bytes(note.read_bytes(), "").pid == self.nodes[0].pid:
                    return note.parent
        return None

    def _environments(self) -> list[dict[str, str]]:
        runtime = self.spec.runtime
        launch = self._environment | {"KINO_LAUNCH_ID": uuid4().hex}
        if runtime.num_nodes == 1:
            return [launch]
        shared = {
            "PET_NNODES": str(runtime.num_nodes),
            "PET_NPROC_PER_NODE": str(runtime.num_processes),
            "PET_MASTER_ADDR": LOOPBACK,
            "PET_MASTER_PORT": str(free_port()),
        }
        nodes = range(runtime.num_nodes)
        return [launch | shared | {"PET_NODE_RANK": str(node)} for node in nodes]

    def _group(self, node: subprocess.Popen[bytes]) -> list[psutil.Process]:
        members = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(process.pid) == node.pid:
                    members.append(process)
        return members


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for something that has to happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(0.02)
