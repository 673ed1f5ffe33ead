"""A test file as the ranks of a job, a process each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from kinetoscope.steps.rank_environment import free_port

ROOT = Path(__file__).resolve().parents[2]


def results_of_ranks(script: str, number: int, folder: Path, *arguments: str) -> list[Any]:
    """Run a script as so many ranks, and return what each saved.

    Args:
        script: called with its rank, a port that is free, the folder and the arguments; saves
            ``rank{rank}.pt`` in the folder.
        number: of ranks.
        folder: an existing one.
        *arguments: further ones.
    """
    roots = os.pathsep.join(str(ROOT / root) for root in ("platform", "tests"))
    environment = os.environ | {"PYTHONPATH": roots}
    given = [str(free_port()), str(folder), *arguments]
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), *given], env=environment)
        for rank in range(number)
    ]
    try:
        codes = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * number
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(number)]
