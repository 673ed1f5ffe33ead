"""Supervisors as the pods of a training job start them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kinetoscope.steps.contract import StepSpec, write_spec
from kinetoscope.steps.rank_environment import LOOPBACK, free_port

Pods = list[subprocess.Popen[bytes]]

# Ranks that stop together, as those of a training do; they meet in the ledger and in `folder`.
MEETING_WORKER = """
import time
from pathlib import Path
from kinetoscope.core.errors import PreemptedError
from kinetoscope.steps.worker import run_worker

def main(ctx):
    while not (generation := ctx.ledger.state().generation):
        if ctx.stop_requested:
            raise PreemptedError("told to stop before all ranks were there")
        time.sleep(0.05)
    ctx.join(generation)
    folder = Path(ctx.config["folder"])
    (folder / f"up-{ctx.rank}").touch()
    stop = folder / "stop"
    for part in range(6000):
        if part == 20 and "asks_to_stop" in ctx.config:
            ctx.root_store.put_bytes(ctx.config["asks_to_stop"], b"{}")
            stop.touch()
        if ctx.stop_requested:
            stop.touch()
        if stop.exists():
            time.sleep(ctx.config.get("saves", 0) if ctx.rank == 0 else 0)
            raise PreemptedError("it is saved")
        time.sleep(0.05)
        ctx.progress(part + 1, 6000, "parts", kept=0)

if __name__ == "__main__":
    run_worker(main)
"""


def start_pods(
    spec: StepSpec,
    num_nodes: int = 1,
    *,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    variables: dict[str, str] | None = None,
) -> Pods:
    """Start the supervisors of a step's nodes, each in a session of its own."""
    port = str(free_port())
    command = [sys.executable, "-m", "kinetoscope.steps.supervisor", write_spec(spec)]
    pods = []
    for node in range(num_nodes):
        of_ranks = {
            "PET_NNODES": str(num_nodes),
            "PET_NPROC_PER_NODE": str(spec.runtime.num_processes),
            "PET_NODE_RANK": str(node),
            "PET_MASTER_ADDR": LOOPBACK,
            "PET_MASTER_PORT": port,
            "KINO_POD_UID": f"pod-{port}-{node}",
            "KINO_LAUNCH_ID": "0",
        }
        environment = os.environ | of_ranks | (variables or {})
        pods.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        )
    return pods


@contextmanager
def running(spec: StepSpec, folder: Path) -> Iterator[Pods]:
    """Start a step of `MEETING_WORKER`; give its pods when all ranks are at work."""
    pods = start_pods(spec, spec.runtime.num_nodes)
    try:
        for rank in range(len(pods)):
            wait_until((folder / f"up-{rank}").exists)
        yield pods
    finally:
        end_all(pods)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill what still runs, so that a test that failed leaves nothing behind."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
