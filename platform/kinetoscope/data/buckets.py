"""Buckets: which resolution, length and aspect ratio each clip is trained at.

The rules are Open-Sora 1.2's (``opensora/datasets/bucket.py``, v1.2.0), vectorised over columns,
with two differences: a clip of exactly a bucket's number of frames fits it (the reference wants one
frame more), and the draws are counter-based, so they do not depend on the order of evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kinetoscope.core.keys import random_key, uniform
from kinetoscope.data.plan_config import BucketConfig, BucketsConfig, FrameSize

_TABLES = Path(__file__).with_name("aspect_ratios.json")
# A clip may be enlarged a little: it fits a resolution from this share of its pixels on.
_PIXEL_TOLERANCE = 0.8

TOO_SMALL = "fewer pixels than every bucket's resolution"
TOO_SHORT = "fewer frames than every bucket of a fitting resolution"
NOT_DRAWN = "left out by keep_probability or length_probability"

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The shape that samples of a batch share; sizes in pixels."""

    resolution: str
    num_frames: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """The outcome for every row of a table.

    Attributes:
        bucket: index into ``buckets`` per row; -1 for rows that no bucket took.
        buckets: the buckets that took at least one row, sorted.
        batch_sizes: samples per batch, by bucket.
        dropped: rows that no bucket took, counted by reason.
    """

    bucket: Int64s
    buckets: tuple[Bucket, ...]
    batch_sizes: tuple[int, ...]
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Resolution:
    name: str
    num_pixels: int
    ratios: npt.NDArray[np.float64]
    heights: Int64s
    widths: Int64s


def frame_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Return (height, width) in pixels of a named resolution at an aspect ratio.

    Args:
        resolution: a name of the tables, e.g. ``240p``.
        aspect_ratio: ``height:width``, e.g. ``9:16``; tables without that ratio give their nearest.

    Raises:
        ValueError: no such resolution or ratio.
    """
    tables = _tables()
    if resolution not in tables["resolutions"]:
        raise ValueError(f"resolution {resolution!r} is none of {sorted(tables['resolutions'])}")
    if aspect_ratio not in tables["aspect_ratios"]:
        raise ValueError(
            f"aspect ratio {aspect_ratio!r} is none of {list(tables['aspect_ratios'])}"
        )
    table = _named_resolution(resolution)
    nearest = int(np.abs(table.ratios - float(tables["aspect_ratios"][aspect_ratio])).argmin())
    return int(table.heights[nearest]), int(table.widths[nearest])


def assign_buckets(
    config: BucketsConfig,
    columns: tuple[Int64s, Int64s, Int64s],
    *,
    stride: tuple[int, int] = (1, 1),
    key: tuple[int | str, ...] = (),
) -> Assignment:
    """Assign every row to a bucket or to none.

    From the largest resolution down, a clip takes the longest length it has frames for (and whose
    ``length_probability`` draw lets it), then stays with ``keep_probability`` or falls to the next
    smaller resolution. Rows of one frame take image buckets only, longer ones never do.

    Args:
        config: the buckets.
        columns: num_frames, height and width of the rows.
        stride: sizes are cut down to multiples of (height, width) strides, at least one stride.
        key: parts of the random key, e.g. (seed, epoch).
    """
    num_frames, height, width = columns
    chosen = np.full(len(num_frames), -1, dtype=np.int64)
    large_enough = np.zeros(len(chosen), dtype=bool)
    long_enough = np.zeros(len(chosen), dtype=bool)
    groups = _by_resolution(config)
    flat = [bucket for _, lengths in groups for bucket in lengths]
    for resolution, lengths in groups:
        fits = height * width >= _PIXEL_TOLERANCE * resolution.num_pixels
        large_enough |= fits
        waiting = fits & (chosen < 0)
        long_enough |= fits & _any_length(lengths, num_frames)
        for bucket in lengths:
            taken, kept = _draw(bucket, num_frames, waiting, key)
            waiting &= ~taken
            chosen[kept] = flat.index(bucket)
    reasons = {
        TOO_SMALL: ~large_enough,
        TOO_SHORT: large_enough & ~long_enough,
        NOT_DRAWN: long_enough & (chosen < 0),
    }
    dropped = {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}
    return _with_sizes(groups, chosen, height / width, stride=stride, dropped=dropped)


def _any_length(lengths: Sequence[BucketConfig], num_frames: Int64s) -> npt.NDArray[np.bool_]:
    fits = np.zeros(len(num_frames), dtype=np.bool_)
    for bucket in lengths:
        fits |= _length_fits(bucket, num_frames)
    return fits


def _length_fits(bucket: BucketConfig, num_frames: Int64s) -> npt.NDArray[np.bool_]:
    fits = num_frames == 1 if bucket.num_frames == 1 else num_frames >= bucket.num_frames
    return np.asarray(fits, dtype=np.bool_)


def _draw(
    bucket: BucketConfig,
    num_frames: Int64s,
    waiting: npt.NDArray[np.bool_],
    key: tuple[int | str, ...],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the rows that stop at this length, and those of them that stay at this resolution."""
    rows = np.arange(len(num_frames))
    name = (*key, bucket.resolution_name, bucket.num_frames)
    by_length = uniform(random_key("bucket_length", *name), rows) < bucket.length_probability
    by_keep = uniform(random_key("bucket_keep", *name), rows) < bucket.keep_probability
    taken = waiting & _length_fits(bucket, num_frames) & by_length
    return taken, taken & by_keep


def _with_sizes(
    groups: Sequence[tuple[_Resolution, Sequence[BucketConfig]]],
    chosen: Int64s,
    aspect: npt.NDArray[np.float64],
    *,
    stride: tuple[int, int],
    dropped: dict[str, int],
) -> Assignment:
    found: dict[Bucket, Int64s] = {}
    batch_sizes: dict[Bucket, int] = {}
    number = -1
    for resolution, lengths in groups:
        for config in lengths:
            number += 1
            rows = np.flatnonzero(chosen == number)
            nearest = np.abs(aspect[rows, None] - resolution.ratios).argmin(axis=1)
            for ratio in np.unique(nearest):
                bucket = Bucket(
                    resolution.name,
                    config.num_frames,
                    _snap(int(resolution.heights[ratio]), stride[0]),
                    _snap(int(resolution.widths[ratio]), stride[1]),
                )
                # Two ratios may become one size at a coarse stride.
                earlier = found.get(bucket, np.empty(0, dtype=np.int64))
                found[bucket] = np.concatenate([earlier, rows[nearest == ratio]])
                batch_sizes[bucket] = config.batch_size
    buckets = tuple(sorted(found))
    result = np.full(len(chosen), -1, dtype=np.int64)
    for index, bucket in enumerate(buckets):
        result[found[bucket]] = index
    return Assignment(result, buckets, tuple(batch_sizes[bucket] for bucket in buckets), dropped)


def _snap(length_px: int, stride: int) -> int:
    return max(length_px // stride, 1) * stride


def _by_resolution(
    config: BucketsConfig,
) -> list[tuple[_Resolution, list[BucketConfig]]]:
    """Return resolutions from most pixels down, each with its lengths from long to short."""
    named: dict[str, tuple[_Resolution, list[BucketConfig]]] = {}
    for bucket in config.buckets:
        entry: tuple[_Resolution, list[BucketConfig]] = (_resolution(bucket.resolution), [])
        named.setdefault(bucket.resolution_name, entry)[1].append(bucket)
    for _, lengths in named.values():
        lengths.sort(key=lambda bucket: -bucket.num_frames)
    return sorted(named.values(), key=lambda entry: (-entry[0].num_pixels, entry[0].name))


def _resolution(resolution: str | FrameSize) -> _Resolution:
    if isinstance(resolution, str):
        return _named_resolution(resolution)
    height, width = resolution.height, resolution.width
    return _Resolution(
        f"{height}x{width}",
        height * width,
        np.array([height / width]),
        np.array([height]),
        np.array([width]),
    )


@cache
def _named_resolution(name: str) -> _Resolution:
    entry = _tables()["resolutions"][name]
    sizes = np.array(list(entry["sizes"].values()), dtype=np.int64)
    ratios = np.array([float(ratio) for ratio in entry["sizes"]])
    return _Resolution(name, entry["num_pixels"], ratios, sizes[:, 0], sizes[:, 1])


@cache
def _tables() -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = json.loads(_TABLES.read_text())
    return tables
