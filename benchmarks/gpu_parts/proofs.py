"""What has to be right on the device before its speed means anything: parity and tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from gpu_parts.measure import Bench

_ROOT = Path(__file__).parents[2]
_GOLDEN = Path("tests/golden/reference")
# Files that a model runs for; the others compare plans and texts, which no device touches.
_OF_MODELS = ("stdit3*", "vae_*", "rflow_*")
_OF_A_TINY_MODEL = ("stdit3_variant*",)


def parity(bench: Bench, dtype: str) -> dict[str, object]:
    """Compare the models with the reference's values on the device.

    Args:
        bench: where.
        dtype: ``fp32`` (without TF32) or ``bf16``.

    Returns:
        Numbers of cases, the failed ones, and by file the largest error over its tolerance.

    Raises:
        RuntimeError: it gave no result.
    """
    rows: list[dict[str, object]] = []
    for pattern in _OF_A_TINY_MODEL if bench.tiny else _OF_MODELS:
        command = [sys.executable, "-m", "kinetoscope.parity", str(_GOLDEN), "--json"]
        command += ["--only", pattern, "--device", str(bench.device), "--dtype", dtype]
        ran = _run(command)
        if not ran.stdout.strip():
            raise RuntimeError(_last_line(ran.stderr))
        rows += json.loads(ran.stdout)
    failed = [row for row in rows if not row["ok"]]
    return {"cases": len(rows), "failed": len(failed), "failures": failed[:20]}


def tests(bench: Bench) -> dict[str, object]:
    """Run ``tests/gpu``.

    Returns:
        What pytest says at its end, and of each test that failed.

    Raises:
        RuntimeError: no test ran.
    """
    command = [sys.executable, "-m", "pytest", "-c", "tests/gpu/pytest.ini", "tests/gpu"]
    command += ["-q", "-p", "no:cacheprovider", "-rfEs", "--tb=line"]
    ran = _run(command, {} if bench.on_gpu else {"KINO_TEST_GPU_DEVICE": "cpu"})
    lines = ran.stdout.strip().splitlines()
    if " passed" not in _last_line(ran.stdout) and " failed" not in _last_line(ran.stdout):
        raise RuntimeError(_last_line(ran.stdout) or _last_line(ran.stderr))
    told = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    return {"exit_code": ran.returncode, "summary": lines[-1], "not_passed": told}


def _run(
    command: list[str], variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    paths = [str(_ROOT / "platform"), *sys.path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT, env=env)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
