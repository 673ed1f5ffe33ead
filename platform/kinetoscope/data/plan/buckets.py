"""Buckets: which resolution, length and aspect ratio each clip is trained at.

The rules are Open-Sora 1.2's (``opensora/datasets/bucket.py``, v1.2.0), vectorised over columns,
with three differences: a clip of exactly a bucket's number of frames fits it (the reference wants
one frame more), sizes are cut to what the models can represent, and the draws are counter-based, so
they do not depend on the order of evaluation. `parity.reference.buckets` has the reference's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinetoscope.core.machine_limits import usable_cores
from kinetoscope.data.plan.bucket_rules import Rules
from kinetoscope.data.plan.config import BucketsConfig

TOO_SMALL = "fewer pixels than every bucket's resolution"
TOO_SHORT = "fewer frames than every bucket of a fitting resolution"
OTHER_KIND = "videos where all fitting buckets are of images, or the other way round"
NOT_DRAWN = "left out by keep_probability or length_probability"

# Rows of a chunk: its columns stay in a core's cache.
_CHUNK_ROWS = 1 << 16

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


def assign_buckets(
    config: BucketsConfig,
    columns: tuple[Int64s, Int64s, Int64s],
    *,
    stride: tuple[int, int],
    key: tuple[int | str, ...] = (),
    num_threads: int | None = None,
) -> Assignment:
    """Assign every row to a bucket or to none.

    From the largest resolution down, a clip takes the longest length it has frames for (and whose
    ``length_probability`` draw lets it), then stays with ``keep_probability`` or falls to the next
    smaller resolution. Rows of one frame take image buckets only, longer ones never do.

    Args:
        config: the buckets.
        columns: num_frames, height and width of the rows.
        stride: sizes are cut down to multiples of (height, width) strides, at least one stride: the
            pixels of one patch of latents, or (1, 1) for the tables' own sizes.
        key: parts of the random key, e.g. (seed, epoch).
        num_threads: that share the rows; None: one per core. The outcome is the same for any.

    Raises:
        ValueError: the columns differ in length, or a stride is below 1.
    """
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"columns differ in length: {[len(column) for column in columns]}")
    if min(stride) < 1:
        raise ValueError(f"stride must be at least (1, 1), not {stride}")
    rules = Rules(config, key)
    codes = np.empty(len(columns[0]), dtype=np.int64)
    chunks = [slice(first, first + _CHUNK_ROWS) for first in range(0, len(codes), _CHUNK_ROWS)]

    def assign(rows: slice) -> tuple[Int64s, Int64s]:
        frames, height, width = (
            np.asarray(column[rows]).astype(np.int64, copy=False) for column in columns
        )
        chunk = rules.assign(frames, height, width, first_row=rows.start)
        codes[rows] = chunk.code
        counts = np.bincount(chunk.code + 1, minlength=rules.num_codes + 1)
        unfit = (chunk.num_too_small, chunk.num_too_short, chunk.num_other_kind)
        return counts, np.array(unfit, dtype=np.int64)

    with ThreadPoolExecutor(num_threads or max(1, int(usable_cores()))) as pool:
        outcomes = list(pool.map(assign, chunks))
        num_dropped, *uses = _sum(rules.num_codes + 1, (counts for counts, _ in outcomes))
        buckets, batch_sizes, place = _used_buckets(rules, uses, stride)

        def number(rows: slice) -> None:
            codes[rows] = place[codes[rows]]

        list(pool.map(number, chunks))
    unfit = _sum(3, (counts for _, counts in outcomes))
    reasons = dict(zip((TOO_SMALL, TOO_SHORT, OTHER_KIND), unfit, strict=True))
    reasons[NOT_DRAWN] = num_dropped - sum(unfit)
    dropped = {reason: count for reason, count in reasons.items() if count}
    return Assignment(codes, buckets, batch_sizes, dropped)


def _sum(size: int, parts: Iterable[Int64s]) -> list[int]:
    total = np.zeros(size, dtype=np.int64)
    for part in parts:
        total += part
    values: list[int] = total.tolist()
    return values


def _used_buckets(
    rules: Rules, uses: Sequence[int], stride: tuple[int, int]
) -> tuple[tuple[Bucket, ...], tuple[int, ...], Int64s]:
    """Return the buckets that have rows, their batch sizes, and the bucket of each code.

    Two ratios may become one size at a coarse stride. Code -1, of no bucket, stays -1.
    """
    bucket_of: dict[int, Bucket] = {}
    batch_sizes: dict[Bucket, int] = {}
    for group in rules.groups:
        table = group.resolution
        for length in (*group.images, *group.videos):
            for ratio, (height, width) in enumerate(table.sizes.values()):
                code, num_frames = length.first_code + ratio, length.config.num_frames
                size = _snap(height, stride[0]), _snap(width, stride[1])
                if uses[code]:
                    bucket_of[code] = Bucket(table.name, num_frames, *size)
                    batch_sizes[bucket_of[code]] = length.config.batch_size
    buckets = tuple(sorted(batch_sizes))
    numbers = {bucket: number for number, bucket in enumerate(buckets)}
    place = np.full(len(uses) + 1, -1, dtype=np.int64)
    for code, bucket in bucket_of.items():
        place[code] = numbers[bucket]
    return buckets, tuple(batch_sizes[bucket] for bucket in buckets), place


def _snap(length_px: int, stride: int) -> int:
    return max(length_px // stride, 1) * stride
