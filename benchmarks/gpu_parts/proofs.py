"""What has to be right on the device before its speed means anything: parity and tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_parts.measure import Bench

_ROOT = Path(__file__).parents[2]
_GOLDEN = _ROOT / "tests" / "golden"
# stdit3*, vae_* and rflow_*: a model runs for them. The others compare plans and texts.
_OF_MODELS = "[srv][tfa]*"
_OF_A_TINY_MODEL = "stdit3_variant*"
_NUM_SHOWN = 20


def parity(bench: Bench) -> dict[str, object]:
    """Compare the models with the reference's values on the device, in fp32 without TF32.

    Returns:
        ``fp32`` and ``bf16`` (the cases that compare rounding errors with the reference's own):
        numbers of cases and of failed ones, and the failures.

    Raises:
        RuntimeError: a golden set gave no result.
    """
    rows: list[dict[str, Any]] = []
    sets = (
        ["reference"] if bench.tiny else [path.parent.name for path in _GOLDEN.glob("*/index.json")]
    )
    for name in sorted(sets):
        command = [sys.executable, "-m", "kinetoscope.parity", str(_GOLDEN / name), "--json"]
        command += ["--only", _OF_A_TINY_MODEL if bench.tiny else _OF_MODELS]
        command += ["--device", "cuda"] if bench.on_gpu else []
        ran = _run(command)
        if not ran.stdout.strip():
            raise RuntimeError(f"{name}: {_last_line(ran.stderr)}")
        rows += json.loads(ran.stdout)
    low = [row for row in rows if row["case"].endswith(" bf16")]
    return {"fp32": _summary([row for row in rows if row not in low]), "bf16": _summary(low)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, object]:
    failed = [row for row in rows if not row["ok"]]
    return {"cases": len(rows), "failed": len(failed), "failures": failed[:_NUM_SHOWN]}


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
