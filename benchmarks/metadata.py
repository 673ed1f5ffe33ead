"""Take the metadata of 20 million clips through filters, split, buckets and report.

Goal: within 4 GiB of memory (the peak of this process) and 3 minutes. Names and captions are those
of 100,000 videos, each of which gives its clips one after the other. The last line is JSON; exit
code 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from kinetoscope.config.load import load_config
from kinetoscope.core.keys import generator
from kinetoscope.data.config import FiltersConfig
from kinetoscope.data.plan.buckets import assign_buckets
from kinetoscope.data.prepare.filters import drop_reasons
from kinetoscope.data.prepare.split import split_groups

MOST_GIB, MOST_SECONDS = 4.0, 180.0
_SCORES = ("motion", "quality", "frozen")
_NUM_VIDEOS = 100_000
_SIZES = np.array([(240, 426), (360, 640), (480, 854), (720, 1280), (1080, 1920)])
_RATES = np.array([24.0, 25.0, 30.0, 60.0])
# The VAE's stride times the patches of the model.
_STRIDE = (16, 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    seconds: dict[str, float] = {}
    clips = _clips(options.rows)
    _say(f"{len(clips):,} clips, {clips.estimated_size('gb'):.2f} GB of columns")
    with _timed("filters", seconds):
        where = ("motion > 0.2 and quality >= 0.3", "frozen < 0.5", "seconds >= 1")
        reasons = drop_reasons(clips, FiltersConfig(where=where), _SCORES)
        clips = clips.with_columns(reasons.cast(pl.Categorical))
        kept = reasons.is_null()
    with _timed("split", seconds):
        groups = clips["shot"].filter(kept).to_numpy()
        numbers = np.unique(groups, return_inverse=True)[1]
        heldout = split_groups(numbers, groups, fraction=0.05, seed=0)
    with _timed("buckets", seconds):
        sizes = ("num_frames", "height", "width")
        columns = [clips[name].filter(kept).to_numpy() for name in sizes]
        plan = load_config("open-sora-1.2").config.train_dit[0].plan
        outcome = assign_buckets(plan, (columns[0], columns[1], columns[2]), stride=_STRIDE)
    total, peak_gib = sum(seconds.values()), _peak_gib()
    told = {
        "metadata.seconds": round(total, 1),
        "metadata.peak_gib": round(peak_gib, 2),
        **{f"metadata.{name}_seconds": round(value, 1) for name, value in seconds.items()},
        "rows": options.rows,
        "kept": int(kept.sum()),
        "heldout": int(heldout.sum()),
        "buckets": len(outcome.buckets),
        "cores": os.cpu_count(),
    }
    print(json.dumps(told))
    return 0 if total <= MOST_SECONDS and peak_gib <= MOST_GIB else 1


def _clips(rows: int) -> pl.DataFrame:
    draw = generator("metadata", rows)
    size = draw.integers(0, len(_SIZES), rows)
    video = np.sort(draw.integers(0, _NUM_VIDEOS, rows)).astype(np.uint32)
    names = pl.Series([f"films/{number:06d}.mp4" for number in range(_NUM_VIDEOS)])
    rates = _RATES[draw.integers(0, len(_RATES), rows)]
    return pl.DataFrame(
        {
            "video": names.cast(pl.Categorical).gather(video),
            "caption": pl.repeat("a man walks along a street", rows, eager=True).cast(
                pl.Categorical
            ),
            "num_frames": draw.integers(1, 400, rows),
            "fps": rates,
            "own_fps": rates,
            "height": _SIZES[size, 0],
            "width": _SIZES[size, 1],
            "shot": video.astype(np.int64),
            "motion": draw.gamma(2.0, 1.0, rows),
            "quality": draw.beta(5.0, 3.0, rows),
            "frozen": draw.beta(1.0, 9.0, rows),
            "reason": pl.repeat(None, rows, dtype=pl.String, eager=True),
        }
    )


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begun
    _say(f"{name}: {seconds[name]:.1f} s, peak {_peak_gib():.2f} GiB")


def _peak_gib() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    return parser


if __name__ == "__main__":
    sys.exit(main())
