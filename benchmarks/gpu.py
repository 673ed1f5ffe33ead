"""Measure on one H100 what no other machine can show: whether it is right there, and how fast.

Parts run in the order of their value, each in a process that takes no other part down with it. What
a part found is written to ``--out`` as it ends (or to stderr); the last line on stdout is one JSON
object of everything, with the goals. Without a GPU, ``--device cpu --tiny`` runs the same code, and
its figures mean nothing. Exit code 1 when a part failed or a required goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpu_parts.goals import goals

_CHILD = Path(__file__).parent / "gpu_parts" / "child.py"
_ROOT = _CHILD.parents[2]
# By name, in the order of their value, about the seconds that they take on an H100.
PARTS = {
    "parity": 45,
    "tests": 40,
    "syncs": 20,
    "stdit_360p": 60,
    "generation": 60,
    "stdit_720p": 60,
    "stdit_144p": 60,
    "vae_decode": 25,
    "vae_encode": 25,
    "vae_train": 25,
    "stdit_360p_spelled_out": 30,
}
# How much longer than it should a part may take, and by how much all may overrun.
_PATIENCE = 3
_GRACE_SECONDS = 30.0


class Child:
    """A process that measures parts, one at a time."""

    def __init__(self, device: str, *, tiny: bool) -> None:
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        paths = [str(_ROOT / "platform"), str(_ROOT / "benchmarks")]
        if "PYTHONPATH" in os.environ:
            paths.append(os.environ["PYTHONPATH"])
        self._process = subprocess.Popen(
            [sys.executable, str(_CHILD), device, "tiny" if tiny else "full"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **hidden, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def measure(self, part: str, *, limit_seconds: float) -> dict[str, Any]:
        """Return what a part found, or the ``error`` with which it or the process ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{part}\n".encode())
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit_seconds):
                self._process.kill()
                return {"error": f"ended after {limit_seconds:.0f} s without a result"}
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the process ended with exit code {self._process.wait()}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    parts = options.part or list(PARTS)
    found: dict[str, dict[str, Any]] = {}
    for part, result in _measured(options, parts, began + options.seconds):
        found[part] = result
        _write(options.out, part, result)
    reached = goals(found)
    everything = {
        "parts": found,
        "not_begun": [part for part in parts if part not in found],
        "goals": reached,
        "device": options.device,
        "tiny": options.tiny,
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(options.out, "gpu", everything)
    print(json.dumps(everything))
    missed = any(goal["met"] is False for goal in reached) and not options.tiny
    return int(missed or any("error" in result for result in found.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--seconds", type=float, default=360, help="after which no part begins (default 360)"
    )
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), metavar="NAME", help=", ".join(PARTS)
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="tiny models: a check of the code")
    out = os.environ.get("OUT")
    parser.add_argument(
        "--out", type=Path, default=Path(out) if out else None, metavar="DIR", help="default: $OUT"
    )
    return parser


def _measured(
    options: argparse.Namespace, parts: Sequence[str], deadline: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield parts with what they found, while there is time for the next one."""
    child = None
    for part in parts:
        left = deadline - time.monotonic()
        if left < (0 if options.tiny else PARTS[part]):
            continue
        child = child or Child(options.device, tiny=options.tiny)
        start = time.monotonic()
        limit = min(left, _PATIENCE * PARTS[part]) + _GRACE_SECONDS
        result = child.measure(part, limit_seconds=limit)
        yield part, {**result, "part_seconds": round(time.monotonic() - start, 1)}
        if "error" in result:
            # Whatever went wrong may have left the device unusable to this process.
            child.close()
            child = None
    if child is not None:
        child.close()


def _write(directory: Path | None, name: str, found: dict[str, Any]) -> None:
    if directory is None:
        if name in PARTS:
            sys.stderr.write(f"{name}: {json.dumps(found)}\n")
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
