"""Render the report of 20 million clips, with the buckets of the stages of ``open-sora-1.2``.

Goal: less than 60 s and 1 GiB above the columns. Names and captions are of few values, as they do
not make the report's work. The last line is JSON; exit code 1 when the goal is missed.
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
import polars as pl

from kinetoscope.config.load import load_config
from kinetoscope.core.keys import generator
from kinetoscope.data.captions.found import Captions
from kinetoscope.data.report.bucket_table import BucketTable
from kinetoscope.data.report.data import NearPair, QuarantineRow, ReportData
from kinetoscope.data.report.page import render_report
from kinetoscope.runs.checks import stage_buckets

MAX_SECONDS = 60.0
MAX_MIB = 1024
_SIZES = ((144, 256), (240, 426), (360, 640), (720, 1280), (1920, 1080))
_RATES = (23.976, 24.0, 25.0, 29.97, 30.0, 60.0)
_REASONS = ("too_few_frames", "too_small", "too_still", "low_quality")
_SCORES = ("motion", "quality", "bars", "frozen", "blank")
_DROPPED = 0.3
_NUM_PAIRS = 100_000
_PICTURE = "A" * 4000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    clips = _clips(options.rows)
    print(f"columns of {options.rows} clips: {clips.estimated_size('mb'):.0f} MiB", flush=True)
    # 5 sets the peak (VmHWM) back to what is resident now: proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    before_mib, began = _peak_mib(), time.perf_counter()
    tables = stage_buckets(load_config("open-sora-1.2").config, _columns(clips))
    counted = time.perf_counter()
    print(f"buckets: {counted - began:.1f} s", flush=True)
    page = render_report(_data(clips, tables))
    seconds, peak_mib = time.perf_counter() - began, _peak_mib() - before_mib
    print(f"page: {seconds - (counted - began):.1f} s", flush=True)
    told = {
        "report.seconds": round(seconds, 2),
        "report.buckets_seconds": round(counted - began, 2),
        "report.peak_mib_above_columns": round(peak_mib),
        "report.page_kib": round(len(page.encode()) / 2**10),
        "rows": options.rows,
        "cores": os.cpu_count(),
    }
    print(json.dumps(told))
    return int(seconds >= MAX_SECONDS or peak_mib >= MAX_MIB)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000_000)
    return parser


def _clips(num_rows: int) -> pl.DataFrame:
    rng = generator("report_benchmark", 0)
    rate = rng.choice(np.array(_RATES), num_rows)
    size = np.array(_SIZES)[rng.integers(len(_SIZES), size=num_rows)]
    numbers = np.arange(num_rows)
    is_dropped = rng.random(num_rows) < _DROPPED
    columns = {
        "start_frame": numbers % 5000,
        "num_frames": rng.geometric(1 / 150, num_rows) + 4,
        "fps": rate,
        "own_fps": rate,
        "height": np.ascontiguousarray(size[:, 0]),
        "width": np.ascontiguousarray(size[:, 1]),
        "group": pl.Series(numbers // 2),
        **{name: rng.gamma(2.0, 1.0, num_rows) for name in _SCORES},
        "reason": _words(_REASONS, rng.integers(len(_REASONS), size=num_rows)),
        "split": _words(("heldout", "train"), rng.integers(20, size=num_rows).clip(0, 1)),
        "origin": _words(("a.csv:7", "b.txt", "file name"), rng.integers(3, size=num_rows)),
    }
    constant = {name: pl.lit(f"some {name}") for name in ("clip_id", "video", "caption")}
    kept = pl.lit(pl.Series(~is_dropped))
    return pl.DataFrame(columns).with_columns(
        pl.when(~kept).then("reason").alias("reason"),
        *(pl.when(kept).then(name).alias(name) for name in ("split", "group")),
        **constant,
    )


def _words(words: Sequence[str], codes: np.ndarray) -> pl.Series:
    return pl.Series(words, dtype=pl.String).gather(codes)


def _columns(clips: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train = clips.lazy().filter(pl.col("split") == "train")
    sizes = train.select("num_frames", "height", "width").collect(engine="streaming")
    frames, height, width = (column.to_numpy() for column in sizes)
    return frames, height, width


def _data(clips: pl.DataFrame, tables: dict[str, BucketTable]) -> ReportData:
    pairs = [NearPair(row, row + 1, row / _NUM_PAIRS, "picture") for row in range(_NUM_PAIRS)]
    return ReportData(
        num_videos=len(clips) // 10,
        clips=clips,
        scores=_SCORES,
        thumbnail=lambda _: _PICTURE,
        pairs=pairs,
        quarantine=[QuarantineRow("a.mp4", "unreadable", "of no use")] * _NUM_PAIRS,
        captions=Captions().to_json(),
        shown={},
        notes=(),
        buckets=tables,
    )


def _peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel tells no peak of memory")


if __name__ == "__main__":
    sys.exit(main())
