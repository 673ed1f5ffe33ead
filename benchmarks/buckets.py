"""Sort 20 million clips into the buckets of the three DiT stages of ``open-sora-1.2``.

Goal: more than 5 million rows a second on 2 cores, in every stage. A sample of the same rows goes
row by row through the reference's draws too. The last line is JSON; exit code 1 when the goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kinetoscope.config.load import load_config
from kinetoscope.core.keys import generator
from kinetoscope.data.plan.buckets import assign_buckets
from kinetoscope.data.plan.config import BucketsConfig
from kinetoscope.parity.reference.buckets import ReferenceBuckets, reference_bucket_config

MIN_ROWS_PER_SECOND = 5e6
# The VAE's stride times the patches of the model.
_STRIDE = (16, 16)
_SIZES = ((144, 256), (240, 320), (240, 426), (360, 640), (480, 854), (720, 1280), (1080, 1920))
_SHARES = (0.02, 0.05, 0.08, 0.25, 0.2, 0.3, 0.1)
_IMAGES = 0.2
_PORTRAIT = 0.2

Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    columns = _clips(options.rows)
    # 5 sets the peak (VmHWM) back to what is resident now: proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    before_mib = _peak_mib()
    stages = [stage.plan for stage in load_config("open-sora-1.2").config.train_dit]
    rates = {}
    for number, config in enumerate(stages, start=1):
        rates[number] = _rows_per_second(config, columns, options.repeats)
        _say(f"stage {number}: {rates[number] / 1e6:.2f} million rows/s")
    compat = _reference_rows_per_second(stages[0], columns, options.reference_rows)
    _say(f"row by row, the reference's draws: {compat:.0f} rows/s")
    worst = min(rates.values())
    told = {
        "buckets.rows_per_second": round(worst),
        **{f"buckets.stage{n}.rows_per_second": round(rate) for n, rate in rates.items()},
        "buckets.reference_rows_per_second": round(compat),
        "buckets.speedup_over_reference": round(rates[1] / compat),
        "buckets.peak_mib_above_columns": round(_peak_mib() - before_mib),
        "rows": options.rows,
        "cores": os.cpu_count(),
    }
    print(json.dumps(told))
    return int(worst < MIN_ROWS_PER_SECOND)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="runs per stage; the fastest counts")
    parser.add_argument("--reference-rows", type=int, default=5_000)
    return parser


def _clips(num_rows: int) -> Columns:
    """Return frames, height and width of clips as a web-scale set has them."""
    rng = generator("bucket_benchmark", 0)
    sizes = np.array(_SIZES, dtype=np.int64)
    size = rng.choice(len(sizes), num_rows, p=_SHARES)
    portrait = rng.random(num_rows) < _PORTRAIT
    height = np.where(portrait, sizes[size, 1], sizes[size, 0])
    width = np.where(portrait, sizes[size, 0], sizes[size, 1])
    # Crops, letter boxes: no two sources agree on their sizes.
    height += rng.integers(-height // 8, 1, num_rows)
    width += rng.integers(-width // 8, 1, num_rows)
    frames = rng.integers(2, 900, num_rows)
    frames[rng.random(num_rows) < _IMAGES] = 1
    return frames, height, width


def _rows_per_second(config: BucketsConfig, columns: Columns, repeats: int) -> float:
    seconds = []
    for epoch in range(repeats):
        start = time.perf_counter()
        assign_buckets(config, columns, stride=_STRIDE, key=(42, epoch))
        seconds.append(time.perf_counter() - start)
    return len(columns[0]) / min(seconds)


def _reference_rows_per_second(config: BucketsConfig, columns: Columns, num_rows: int) -> float:
    buckets = ReferenceBuckets(reference_bucket_config(config))
    rows = list(zip(*(column[:num_rows].tolist() for column in columns), strict=True))
    spacing = buckets.num_buckets
    start = time.perf_counter()
    for number, row in enumerate(rows):
        buckets.bucket_of(*row, seed=42 + number * spacing)
    return len(rows) / (time.perf_counter() - start)


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
