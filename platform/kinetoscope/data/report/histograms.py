"""Histograms over the columns of all clips, kept and dropped beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64s = npt.NDArray[np.float64]

KEPT = pl.col("reason").is_null()
"""Whether a clip was kept."""
CHUNK_ROWS = 1 << 20
"""Rows that are looked at together: what is computed of them stays small."""

_NUM_BINS = 20


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in linear bins.

    Attributes:
        name: what is counted, with its unit.
        edges: of the bins, one more than there are; empty where there is no finite value.
        kept: clips in each bin that were kept.
        dropped: clips in each bin that were dropped.
        not_finite: clips whose value is missing, not a number, or infinite.
    """

    name: str
    edges: list[float]
    kept: list[int]
    dropped: list[int]
    not_finite: int


def histogram(clips: pl.DataFrame, name: str, value: pl.Expr) -> Histogram:
    """Count the clips by a value.

    Args:
        clips: the columns.
        name: of the value, for people.
        value: of each clip.
    """
    low, high, not_finite = np.inf, -np.inf, 0
    for values, _ in _finite_values(clips, value):
        not_finite -= len(values)
        low, high = min(low, values.min(initial=np.inf)), max(high, values.max(initial=-np.inf))
    not_finite += len(clips)
    if low > high:
        return Histogram(name, [], [], [], not_finite)
    num_bins = _NUM_BINS if low < high else 1
    counts = np.zeros(2 * num_bins, dtype=np.int64)
    for values, is_kept in _finite_values(clips, value):
        place = _bins(values, float(low), float(high), num_bins) + num_bins * ~is_kept
        counts += np.bincount(place, minlength=2 * num_bins)
    parts = np.arange(num_bins + 1) / num_bins
    edges = low * (1 - parts) + high * parts  # high - low may be too large for a float
    kept, dropped = counts[:num_bins], counts[num_bins:]
    return Histogram(name, edges.tolist(), kept.tolist(), dropped.tolist(), not_finite)


def _finite_values(
    clips: pl.DataFrame, value: pl.Expr
) -> Iterator[tuple[Float64s, npt.NDArray[np.bool_]]]:
    """Yield finite values, and whether their clips were kept, some rows at a time."""
    for part in clips.iter_slices(CHUNK_ROWS):
        told = part.select(value.cast(pl.Float64).alias("value"), KEPT.alias("kept"))
        values = told["value"].fill_null(np.nan).to_numpy()
        is_finite = np.isfinite(values)
        yield values[is_finite], told["kept"].to_numpy()[is_finite]


def _bins(values: Float64s, low: float, high: float, num_bins: int) -> npt.NDArray[np.int64]:
    """Return the bin of each value in [low, high]; the last bin has its upper edge."""
    span = high / 2 - low / 2
    place = (values / 2 - low / 2) / span * num_bins if span else np.zeros(len(values))
    return np.minimum(place.astype(np.int64), num_bins - 1)
