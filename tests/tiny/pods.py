"""Supervisors as the pods of a training job start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from kinetoscope.steps.contract import StepSpec, write_spec
from kinetoscope.steps.rank_environment import LOOPBACK, free_port


def start_pods(
    spec: StepSpec,
    num_nodes: int = 1,
    *,
    stdout: IO[bytes] | int | None = None,
    variables: dict[str, str] | None = None,
) -> list[subprocess.Popen[bytes]]:
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
            subprocess.Popen(command, env=environment, stdout=stdout, start_new_session=True)
        )
    return pods


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill what still runs, so that a test that failed leaves nothing behind."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
