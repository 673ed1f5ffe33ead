"""The report as JSON: all that the page says, without the pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from kinetoscope.data.report.histograms import CHUNK_ROWS, KEPT, Histogram, histogram
from kinetoscope.data.report.rows import evenly, finite, telling_pairs, told_rows

if TYPE_CHECKING:
    from kinetoscope.data.report.data import ReportData

_NUM_SAMPLES = 24
_NUM_DROPPED = 12
_NUM_PAIRS = 20
_NUM_RATES = 12

_FROM_LIST, _BESIDE, _FILE_NAME, _NONE = (
    "a list",
    "a file beside the video",
    "the file's name",
    "none",
)
_LINE_OF_LIST = r"(:| line )\d+$"


def report_json(data: ReportData) -> dict[str, Any]:
    """Return the report: counts, and the rows of the clips that are shown.

    Texts are as they were found, however long.
    """
    clips = data.clips
    return {
        "videos": data.num_videos,
        "left_out": data.num_left_out,
        "notes": list(data.notes),
        "clips": _totals(clips),
        "captions": data.captions | {"origins": _origins(clips)},
        "shown": dict(data.shown),
        "dropped": _dropped(data),
        "buckets": {stage: asdict(table) for stage, table in data.buckets.items()},
        "near_duplicates": _near_duplicates(data),
        "frame_rates": _frame_rates(clips),
        "histograms": [asdict(chart) for chart in histograms(data)],
        "samples": told_rows(data, evenly(clips["reason"].is_null(), _NUM_SAMPLES)),
        "quarantine": _counts(Counter(row.reason for row in data.quarantine)),
    }


def histograms(data: ReportData) -> list[Histogram]:
    """Count the clips by length, size and each score."""
    values = {
        "frames": pl.col("num_frames"),
        "seconds": pl.col("num_frames") / pl.col("fps"),
        "shorter side, pixels": pl.min_horizontal("height", "width"),
        **{f"{name} score": pl.col(name) for name in data.scores},
    }
    return [histogram(data.clips, name, value) for name, value in values.items()]


def _totals(clips: pl.DataFrame) -> dict[str, int]:
    kept = int(clips["reason"].null_count())
    train = int((clips["split"] == "train").sum())
    return {
        "found": len(clips),
        "kept": kept,
        "train": train,
        "heldout": kept - train,
        "groups": clips["group"].n_unique() - bool(clips["group"].null_count()),
    }


def _origins(clips: pl.DataFrame) -> dict[str, int]:
    """Count the kept clips by the kind of place that their caption comes from."""
    origin = pl.col("origin").cast(pl.String)
    kind = (
        pl.when(origin.is_null() | (origin == "none"))
        .then(pl.lit(_NONE))
        .when(origin == "file name")
        .then(pl.lit(_FILE_NAME))
        .when(origin.str.contains(_LINE_OF_LIST))
        .then(pl.lit(_FROM_LIST))
        .otherwise(pl.lit(_BESIDE))
    )
    found: Counter[str] = Counter()
    for part in clips.select("origin", "reason").iter_slices(CHUNK_ROWS):
        kinds = part.filter(KEPT).select(kind.alias("kind"))["kind"].value_counts()
        found.update(dict(kinds.iter_rows()))
    return _counts(found)


def _counts(found: Counter[str]) -> dict[str, int]:
    """Return counts, the largest first."""
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _dropped(data: ReportData) -> list[dict[str, Any]]:
    """Return the reasons, the most frequent first, each with a few of its clips."""
    reasons = data.clips["reason"]
    counts = _counts(Counter(dict(reasons.drop_nulls().value_counts().iter_rows())))
    return [
        {
            "reason": reason,
            "clips": count,
            "samples": told_rows(data, evenly(reasons == reason, _NUM_DROPPED)),
        }
        for reason, count in counts.items()
    ]


def _near_duplicates(data: ReportData) -> dict[str, Any]:
    pairs = telling_pairs(data, _NUM_PAIRS)
    rows = told_rows(data, [row for pair in pairs for row in (pair.one, pair.other)])
    return {
        "pairs": len(data.pairs),
        "kinds": _counts(Counter(pair.kind for pair in data.pairs)),
        "shown": [
            {"kind": pair.kind, "distance": finite(pair.distance), "one": one, "other": other}
            for pair, one, other in zip(pairs, rows[::2], rows[1::2], strict=True)
        ],
    }


def _frame_rates(clips: pl.DataFrame) -> dict[str, Any]:
    """Count the kept clips by their source's rate and the one at which they are taken.

    The most frequent rates come first; clips of the others are counted together.
    """
    rates = (
        clips.lazy()
        .filter(KEPT)
        .select(pl.col("own_fps", "fps").round(2))
        .group_by("own_fps", "fps")
        .agg(pl.len().alias("clips"))
        .sort("clips", "own_fps", "fps", descending=[True, False, False])
        .collect(engine="streaming")
    )
    told = [
        {"own_fps": finite(own), "fps": finite(fps), "clips": count}
        for own, fps, count in rates.head(_NUM_RATES).iter_rows()
    ]
    return {"rates": told, "others": int(rates.slice(_NUM_RATES)["clips"].sum())}
