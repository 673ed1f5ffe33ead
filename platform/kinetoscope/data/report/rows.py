"""The few clips that are shown, picked from all without a look at each."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kinetoscope.data.report.data import NearPair, ReportData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COLUMNS = ("clip_id", "video", "start_frame", "num_frames", "fps", "own_fps", "height", "width")
_TEXTS = ("caption", "origin", "reason", "split", "group")


def evenly(chosen: pl.Series, most: int) -> list[int]:
    """Return the row numbers of at most so many chosen clips, evenly over all of them.

    Args:
        chosen: whether each clip is one of them.
        most: of the numbers.
    """
    rows = chosen.arg_true()
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)
    picked: list[int] = rows.gather(np.unique(places)).to_list()
    return picked


def told_rows(data: ReportData, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return clips as JSON values, each with its ``row``, ``start_seconds`` and ``scores``.

    Numbers that aren't finite become None.
    """
    columns = (*_COLUMNS, *_TEXTS, *data.scores)
    picked = data.clips.select(columns)[pl.Series(rows, dtype=pl.Int64)]
    told = []
    for row, values in zip(rows, picked.to_dicts(), strict=True):
        scores = {name: finite(values.pop(name)) for name in data.scores}
        fps = values["fps"]
        start = finite(values["start_frame"] / fps) if fps else None
        rates = {name: finite(values[name]) for name in ("fps", "own_fps")}
        told.append({"row": row, **values, **rates, "start_seconds": start, "scores": scores})
    return told


def finite(value: float | None) -> float | None:
    """Return a number as JSON can have it: None for what is missing or not finite."""
    return value if value is not None and math.isfinite(value) else None


def telling_pairs(data: ReportData, most: int) -> list[NearPair]:
    """Return the pairs from which people see best whether clips are rightly called alike.

    No clip is in two of them, kinds take turns, clips of different videos come before those of one,
    and the farthest pairs, which are the most doubtful, before the near ones.
    """
    names = data.clips["video"]
    one, other = (
        names.gather(pl.Series([getattr(pair, side) for pair in data.pairs], dtype=pl.Int64))
        for side in ("one", "other")
    )
    is_inside = dict(zip(map(id, data.pairs), (one == other).to_list(), strict=True))
    ranked = sorted(data.pairs, key=lambda pair: (is_inside[id(pair)], -pair.distance))
    turns: Counter[str] = Counter()
    taken: list[tuple[int, NearPair]] = []
    for pair in _without_repeats(ranked):
        taken.append((turns[pair.kind], pair))
        turns[pair.kind] += 1
    taken.sort(key=lambda item: item[0])
    return [pair for _, pair in taken[:most]]


def _without_repeats(pairs: Iterable[NearPair]) -> Iterable[NearPair]:
    """Yield the pairs none of whose clips was in one before."""
    seen: set[int] = set()
    for pair in pairs:
        if seen.isdisjoint((pair.one, pair.other)):
            seen |= {pair.one, pair.other}
            yield pair
