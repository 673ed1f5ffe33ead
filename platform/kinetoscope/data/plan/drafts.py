"""The micro-batches of one epoch before they are ordered: which clips go together, at what shape.

Micro-batches are kept as flat arrays (clips, and where each micro-batch begins), since a real data
set has millions of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinetoscope.core.keys import generator, random_key, uniform
from kinetoscope.data.plan.buckets import TOO_SHORT, Bucket, assign_buckets
from kinetoscope.data.plan.config import BucketsConfig, ClipPlanConfig

Int64s = npt.NDArray[np.int64]

Cost = Callable[[Bucket, int], float]
"""Gives the expected compute of a micro-batch, in any unit, of its bucket and number of samples."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a plan needs to know of each clip."""

    num_frames: Int64s
    height: Int64s
    width: Int64s

    def __len__(self) -> int:
        return len(self.num_frames)


@dataclass(frozen=True, slots=True)
class Draft:
    """The micro-batches of an epoch, unordered.

    Attributes:
        clips: clip numbers of all micro-batches, one after the other.
        offsets: where in ``clips`` each micro-batch begins, and the end of the last.
        bucket: per micro-batch, its index into ``buckets``.
        cost: per micro-batch, its expected compute in any unit.
        dropped: clips left out, counted by reason.
        notes: what the user should know about this draft.
    """

    clips: Int64s
    offsets: Int64s
    bucket: Int64s
    buckets: tuple[Bucket, ...]
    cost: npt.NDArray[np.float64]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.bucket)


def draft_buckets(
    columns: Columns,
    config: BucketsConfig,
    *,
    stride: tuple[int, int],
    cost: Cost,
    key: tuple[int | str, ...],
) -> Draft:
    """Fill every bucket's batches with its clips, in random order.

    What does not fill a last batch is left out in this epoch; a bucket with fewer clips than one
    batch repeats them to fill one.
    """
    assigned = assign_buckets(
        config, (columns.num_frames, columns.height, columns.width), stride=stride, key=key
    )
    clips: list[Int64s] = []
    sizes: list[Int64s] = []
    notes: list[str] = []
    for index, batch_size in enumerate(assigned.batch_sizes):
        bucket = assigned.buckets[index]
        rows = np.flatnonzero(assigned.bucket == index)
        name = (bucket.resolution, bucket.num_frames, bucket.height, bucket.width)
        rows = generator("bucket_order", *key, *name).permutation(rows)
        if len(rows) < batch_size:
            notes.append(
                f"bucket {bucket.resolution} x {bucket.num_frames} frames "
                f"({bucket.height}x{bucket.width} pixels) repeats its {len(rows)} clips to fill "
                f"a batch of {batch_size}"
            )
            rows = np.resize(rows, batch_size)
        num_batches = len(rows) // batch_size
        clips.append(rows[: num_batches * batch_size])
        sizes.append(np.full(num_batches, batch_size, dtype=np.int64))
    counts = np.array([len(size) for size in sizes], dtype=np.int64)
    bucket_of = np.repeat(np.arange(len(sizes)), counts)
    flat_sizes = _concatenate(sizes)
    costs = [cost(*pair) for pair in zip(assigned.buckets, assigned.batch_sizes, strict=True)]
    return Draft(
        clips=_concatenate(clips),
        offsets=_offsets(flat_sizes),
        bucket=bucket_of,
        buckets=assigned.buckets,
        cost=np.array(costs, dtype=np.float64)[bucket_of],
        dropped=assigned.dropped,
        notes=tuple(notes),
    )


def pixels_of(bucket: Bucket, num_samples: int) -> float:
    """Return the pixels of a micro-batch, its cost in a network of convolutions."""
    return float(num_samples * bucket.num_frames * bucket.height * bucket.width)


def draft_clips(
    columns: Columns,
    config: ClipPlanConfig,
    *,
    at_least: int,
    key: tuple[int | str, ...],
) -> Draft:
    """Cut one random order of all clips into micro-batches of drawn lengths.

    Args:
        columns: of the clips.
        config: what is drawn.
        at_least: micro-batches to make even when that repeats clips.
        key: parts of the random key.
    """
    fits = np.flatnonzero(columns.num_frames >= config.num_frames)
    short = len(columns) - len(fits)
    dropped = {TOO_SHORT: short} if short else {}
    if not len(fits):
        empty = np.empty(0, dtype=np.int64)
        return Draft(empty, _offsets(empty), empty, (), empty.astype(np.float64), dropped)
    lengths, sizes = _draw_lengths(config, max(len(fits), at_least), key)
    full = int(np.searchsorted(np.cumsum(sizes), len(fits), side="right"))
    notes: tuple[str, ...] = ()
    if full < at_least:
        needed = int(sizes[:at_least].sum())
        notes = (f"an epoch repeats its {len(fits)} clips to fill one step of {needed} samples",)
    count = max(full, at_least)
    unique, bucket_of = np.unique(lengths[:count], return_inverse=True)
    total = int(sizes[:count].sum())
    passes = -(-total // len(fits))
    rng = generator("clip_order", *key)
    stream = np.concatenate([rng.permutation(fits) for _ in range(passes)])[:total]
    area = config.height * config.width
    return Draft(
        clips=stream,
        offsets=_offsets(sizes[:count]),
        bucket=bucket_of.astype(np.int64),
        buckets=tuple(_clip_bucket(config, int(length)) for length in unique),
        cost=(lengths[:count] * sizes[:count] * area).astype(np.float64),
        dropped=dropped,
        notes=notes,
    )


def _draw_lengths(
    config: ClipPlanConfig, count: int, key: tuple[int | str, ...]
) -> tuple[Int64s, Int64s]:
    """Return the number of frames and of samples of each micro-batch."""
    draws = uniform(random_key("clip_lengths", *key), np.arange(count))
    if config.lengths == "random":
        lengths = 1 + (draws * config.num_frames).astype(np.int64)
        if config.frames_per_batch is None:
            return lengths, np.full(count, config.batch_size, dtype=np.int64)
        return lengths, np.maximum(config.frames_per_batch // lengths, 1)
    is_image = (draws < config.image_probability) & (config.lengths == "image_mix")
    return (
        np.where(is_image, 1, config.num_frames),
        np.where(is_image, config.image_batch_size, config.batch_size),
    )


def _clip_bucket(config: ClipPlanConfig, num_frames: int) -> Bucket:
    return Bucket(f"{config.height}x{config.width}", num_frames, config.height, config.width)


def _concatenate(parts: list[Int64s]) -> Int64s:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _offsets(sizes: Int64s) -> Int64s:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
