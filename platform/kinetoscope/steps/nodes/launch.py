"""Starting the supervisors of a step on this machine, one per node, and waiting for them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from uuid import uuid4

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.settings import rank_variables
from kinetoscope.steps.contract import RuntimeConfig
from kinetoscope.steps.nodes.node import CAUSE_SECONDS
from kinetoscope.steps.rank_environment import LOOPBACK, free_port
from kinetoscope.steps.ranks import worst_code

_POLL_SECONDS = 0.1
# How long nodes may take to notice that one is gone; then they are told to stop.
_NOTICE_SECONDS = CAUSE_SECONDS + 15.0

_log = logging.getLogger(__name__)


def run_supervisors(spec_uri: str, runtime: RuntimeConfig) -> ExitCode:
    """Run an attempt with all its nodes on this machine; return the worst code of them.

    Each node has a process group of its own, so that it can be killed as a machine fails: whole.
    """
    environment = _environment() | {"KINO_LAUNCH_ID": uuid4().hex}
    if runtime.num_nodes == 1:
        return _wait([_start(spec_uri, environment)])
    shared = {
        "PET_NNODES": str(runtime.num_nodes),
        "PET_NPROC_PER_NODE": str(runtime.num_processes),
        "PET_MASTER_ADDR": LOOPBACK,
        "PET_MASTER_PORT": str(free_port()),
    }
    return _wait(
        [
            _start(spec_uri, environment | shared | {"PET_NODE_RANK": str(node)}, own_group=True)
            for node in range(runtime.num_nodes)
        ]
    )


def _environment() -> dict[str, str]:
    """Return this process's variables but those that would tell a supervisor of other ranks."""
    of_ranks = rank_variables()
    return {name: value for name, value in os.environ.items() if name not in of_ranks}


def _start(
    spec_uri: str, environment: dict[str, str], *, own_group: bool = False
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kinetoscope.steps.supervisor", spec_uri]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        process_group=0 if own_group else None,
    )


def _wait(nodes: list[subprocess.Popen[bytes]]) -> ExitCode:
    """Wait for all; where one ended badly and the others have not noticed, tell them to stop."""
    tell_at = float("inf")
    try:
        while any(node.poll() is None for node in nodes):
            now = time.monotonic()
            if tell_at == float("inf") and any(node.poll() not in (None, 0) for node in nodes):
                tell_at = now + _NOTICE_SECONDS
            if now >= tell_at:
                _log.warning("a node is gone: the others are told to stop")
                _send(nodes, signal.SIGTERM)
                break
            time.sleep(_POLL_SECONDS)
        codes = [node.wait() for node in nodes]
    finally:
        _send(nodes, signal.SIGKILL)
    return worst_code(codes, told_to_stop=True)


def _send(nodes: list[subprocess.Popen[bytes]], signum: int) -> None:
    for node in nodes:
        if node.poll() is None:
            node.send_signal(signum)
