"""Compare our models with an eager implementation of the same maths: time and memory.

Each side of a case has a process of its own; repeats alternate and the fastest counts. Memory is
the peak of the resident set above that after the imports. Progress goes to stderr; the last line is
JSON: per measurement the ratios of ours to eager (``time_ratio``, ``memory_ratio``), and of the
eager side's time the share of attention (``attention_share``) and of linear layers and convolutions
(``floor_share``: what no rearrangement around them can save). Exit code 1 when the sides' outputs
differ, or, but for --quick, when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SIDE = Path(__file__).with_name("model_side.py")
SIDES = ("ours", "eager")
MAX_PAIRS = 5
# A pair this long is not repeated.
LONG_SECONDS = 24
RELATIVE_TOLERANCE = 2e-3
MANY_FRAMES = 51
# Goals: where attention is much of the baseline, everywhere, and of the memory of long clips.
ATTENTION_SHARE = 0.4
MAX_TIME_RATIO_OF_ATTENTION = 0.8
MAX_TIME_RATIO = 1.0
MAX_MEMORY_RATIO = 0.8


@dataclass(frozen=True)
class Case:
    """What both sides build; measured in each mode.

    Attributes:
        name: of the case; with the mode, of the measurement.
        settings: for ``model_side.py``.
        modes: what is measured, in this order.
        quick: whether --quick has it.
    """

    name: str
    settings: dict[str, object]
    modes: tuple[str, ...]
    quick: bool

    @property
    def is_long_clip(self) -> bool:
        """Whether the goal for memory holds."""
        return self.settings["family"] == "vae" and int(str(self.settings["frames"])) >= MANY_FRAMES


class Side:
    """A process that runs one side of a case on command."""

    def __init__(self, case: Case, side: str, threads: int) -> None:
        # The profiler's own log would fill stderr.
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "KINETO_LOG_LEVEL": "99"}
        self._command = [sys.executable, str(SIDE), json.dumps(case.settings), side]
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def answer(self) -> dict[str, Any]:
        """Wait for one line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended early")
        told: dict[str, Any] = json.loads(line)
        return told

    def run(self, mode: str, *, profile: bool = False) -> dict[str, Any]:
        """Run once and return what was measured."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"mode": mode, "profile": profile}) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    told: dict[str, object] = {}
    problems: list[str] = []
    for case in _cases():
        modes = [mode for mode in case.modes if fnmatch(f"{case.name}_{mode}", options.only)]
        if not modes or (options.quick and not case.quick):
            continue
        for mode, row in _measure(case, modes, options):
            name = f"{case.name}_{mode}"
            told |= {f"{name}.{key}": round(value, 4) for key, value in row.items()}
            found = list(_problems(case, row, quick=options.quick))
            problems += [f"{name}: {problem}" for problem in found]
            _say(name, row, found)
    if not told:
        sys.stderr.write(f"no measurement matches {options.only!r}\n")
        return 2
    told |= {"cores": os.cpu_count(), "threads": options.threads, "problems": problems}
    told["seconds"] = round(time.monotonic() - began)
    text = json.dumps(told)
    if options.json_out is not None:
        options.json_out.write_text(text + "\n")
    print(text)
    return int(bool(problems))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="the small cases, two pairs of most")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="e.g. 'vae_temporal_*'")
    parser.add_argument("--json-out", metavar="FILE", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=4, help="of pairs per measurement, about")
    return parser


def _cases() -> Iterator[Case]:
    for width in (576, 1152):
        for tokens in (256, 1024):
            for frames in (1, 8):
                yield Case(
                    f"stdit_{width}_{tokens}tok_{frames}f",
                    {"family": "stdit", "width": width, "tokens": tokens, "frames": frames},
                    ("forward", "train"),
                    quick=width * tokens * frames <= 576 * 1024,
                )
    for part in ("spatial", "temporal"):
        for frames in (17, 51, 102):
            yield Case(
                f"vae_{part}_{frames}f",
                {"family": "vae", "part": part, "frames": frames, "pixels": 128},
                ("encode", "decode", "train"),
                quick=frames < MANY_FRAMES,
            )


def _measure(
    case: Case, modes: Sequence[str], options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each mode and what was found of it."""
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(closing(Side(case, side, options.threads))) for side in SIDES
        }
        weights_mib = {name: side.answer()["weights_mib"] for name, side in sides.items()}["ours"]
        for mode in modes:
            runs = _pairs(sides, mode, seconds=1 if options.quick else options.seconds)
            shares = sides["eager"].run(mode, profile=True)
            seconds = {side: min(run["seconds"] for run in runs[side]) for side in SIDES}
            memory = {side: max(run["peak_kib"] for run in runs[side]) / 1024 for side in SIDES}
            yield (
                mode,
                {
                    "time_ratio": seconds["ours"] / seconds["eager"],
                    "memory_ratio": memory["ours"] / memory["eager"],
                    "attention_share": shares["attention"],
                    "floor_share": shares["linear"],
                    "seconds": seconds["ours"],
                    "eager_seconds": seconds["eager"],
                    "mib": memory["ours"],
                    "eager_mib": memory["eager"],
                    "weights_mib": weights_mib,
                    "pairs": len(runs["ours"]),
                    "difference": _difference(*(runs[side][0]["values"] for side in SIDES)),
                },
            )


def _pairs(sides: dict[str, Side], mode: str, *, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Run both sides in turn, the first of a pair being the second of the one before."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    spent = 0.0
    for pair in range(MAX_PAIRS):
        for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
            runs[side].append(sides[side].run(mode))
            spent += runs[side][-1]["seconds"]
        # The first runs of a process are slow, so a second pair is left out only if it must.
        if spent >= (seconds if pair else LONG_SECONDS):
            break
    return runs


def _difference(ours: Sequence[float], eager: Sequence[float]) -> float:
    """Return the largest difference of sampled outputs, and of the gradients' norm, relatively."""
    *our_values, our_norm = ours
    *eager_values, eager_norm = eager
    size = max(abs(value) for value in eager_values) or 1.0
    pairs = zip(our_values, eager_values, strict=True)
    outputs = max(abs(a - b) for a, b in pairs) / size
    return max(outputs, abs(our_norm - eager_norm) / (eager_norm or 1.0))


def _problems(case: Case, row: dict[str, float], *, quick: bool) -> Iterator[str]:
    if not row["difference"] <= RELATIVE_TOLERANCE or math.isnan(row["difference"]):
        yield f"outputs differ by {row['difference']:.2g}"
    if quick:
        return
    much = row["attention_share"] >= ATTENTION_SHARE
    allowed = MAX_TIME_RATIO_OF_ATTENTION if much else MAX_TIME_RATIO
    if row["time_ratio"] > allowed:
        yield f"time ratio {row['time_ratio']:.3f} is above {allowed}"
    if case.is_long_clip and row["memory_ratio"] > MAX_MEMORY_RATIO:
        yield f"memory ratio {row['memory_ratio']:.3f} is above {MAX_MEMORY_RATIO}"


def _say(name: str, row: dict[str, float], problems: Sequence[str]) -> None:
    sys.stderr.write(
        f"{name:34s} time {row['time_ratio']:.2f} ({row['seconds']:.3f} of "
        f"{row['eager_seconds']:.3f} s)  memory {row['memory_ratio']:.2f} ({row['mib']:.0f} of "
        f"{row['eager_mib']:.0f} MiB)  attention {row['attention_share']:.2f}  floor "
        f"{row['floor_share']:.2f}  x{row['pairs']:.0f}  {'; '.join(problems)}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
