"""The traced peak is what a step really takes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LEAST_BYTES = 500 * 10**6

slow = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "dit none",
        pytest.param("dit selective bf16", marks=slow),
        pytest.param("dit full bf16", marks=slow),
        "vae spatial",
        pytest.param("vae temporal", marks=slow),
        pytest.param("vae video", marks=slow),
    ],
)
def test_the_kernel_saw_the_traced_peak(name: str) -> None:
    paths = (ROOT / "platform", ROOT / "components", ROOT / "tests")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        # Freed memory goes back at once, as what is live is what is traced.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/tiny/measured_step.py"), name]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["measured"] >= LEAST_BYTES
    assert found["traced"] == pytest.approx(found["measured"], rel=0.15)
