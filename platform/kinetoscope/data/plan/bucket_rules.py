"""The rules that sort clips into buckets, over the columns of a chunk of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinetoscope.core.keys import chance, random_key
from kinetoscope.data.plan.aspect_tables import Resolution, named_resolution
from kinetoscope.data.plan.config import BucketConfig, BucketsConfig, FrameSize

# Frames of the shortest video bucket where there is none.
_NONE = 2**62
PIXEL_TOLERANCE = 0.8
"""A clip may be enlarged a little: it fits a resolution from this share of its pixels on."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Length:
    """One bucket of a resolution, of all its aspect ratios.

    Attributes:
        config: what was asked for.
        first_code: code of its first aspect ratio; the others follow in the table's order.
        length_key: of the draws that let a clip try this length.
        keep_key: of the draws that keep a clip.
    """

    config: BucketConfig
    first_code: int
    length_key: int
    keep_key: int


@dataclass(frozen=True, slots=True)
class Group:
    """The buckets of one resolution.

    Attributes:
        resolution: the table.
        images: the bucket of single frames, if there is one.
        videos: the other buckets, long to short.
    """

    resolution: Resolution
    images: tuple[Length, ...]
    videos: tuple[Length, ...]

    @property
    def min_pixels(self) -> int:
        """Pixels from which a clip fits."""
        return math.ceil(PIXEL_TOLERANCE * self.resolution.num_pixels)


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What became of a chunk's rows.

    Attributes:
        code: bucket and aspect ratio per row (see `Length.first_code`); -1 for none.
        num_too_small: rows that fit no resolution.
        num_too_short: videos that fit a resolution, but have fewer frames than its buckets.
        num_other_kind: videos of resolutions that have buckets of images alone, and images of such
            as have none.
    """

    code: npt.NDArray[np.int32]
    num_too_small: int
    num_too_short: int
    num_other_kind: int


class Rules:
    """The buckets in the order in which they are tried, with the keys of their draws.

    Args:
        config: the buckets.
        key: parts of the random key, e.g. (seed, epoch).
    """

    def __init__(self, config: BucketsConfig, key: tuple[int | str, ...]) -> None:
        self.groups = tuple(_groups(config, key))
        """From most pixels down; among equals the first of the config comes first."""
        self.num_codes = sum(
            len(group.resolution.keys) * len(group.images + group.videos) for group in self.groups
        )
        rising = self.groups[::-1]
        self._min_pixels = np.array([group.min_pixels for group in rising], dtype=np.int64)
        # By level, the number of resolutions that a clip fits: the shortest video that finds a
        # length among them, and whether an image does.
        shortest = [min((v.config.num_frames for v in g.videos), default=_NONE) for g in rising]
        self._shortest = np.minimum.accumulate(np.array([_NONE, *shortest], dtype=np.int64))
        images = [bool(group.images) for group in rising]
        self._image_fits = np.logical_or.accumulate(np.array([False, *images]))

    def assign(
        self, num_frames: Int64s, height: Int64s, width: Int64s, *, first_row: int
    ) -> ChunkResult:
        """Assign a chunk of rows.

        Args:
            num_frames: of the rows.
            height: in pixels.
            width: in pixels.
            first_row: number of the chunk's first row in the table: draws depend on it.
        """
        level = np.searchsorted(self._min_pixels, height * width, side="right")
        code = np.full(len(num_frames), -1, dtype=np.int32)
        walk = _Walk(num_frames, height, width, first_row=first_row, code=code)
        images = videos = np.empty(0, dtype=np.int64)
        for group, (new_videos, new_images) in zip(
            self.groups, _by_level(level, num_frames == 1, len(self.groups)), strict=True
        ):
            images = walk.through(group, group.images, np.concatenate([images, new_images]))
            videos = walk.through(group, group.videos, np.concatenate([videos, new_videos]))
        shortest = self._shortest[level[videos]]
        no_videos = np.count_nonzero(shortest == _NONE)
        short = np.count_nonzero(num_frames[videos] < shortest) - no_videos
        other_kind = no_videos + np.count_nonzero(~self._image_fits[level[images]])
        small = np.count_nonzero(level == 0)
        return ChunkResult(code, int(small), int(short), int(other_kind))


class _Walk:
    """A chunk's rows on their way through the resolutions."""

    def __init__(
        self,
        num_frames: Int64s,
        height: Int64s,
        width: Int64s,
        *,
        first_row: int,
        code: npt.NDArray[np.int32],
    ) -> None:
        self._num_frames = num_frames
        self._height = height
        self._width = width
        self._first_row = first_row
        self._code = code

    def through(self, group: Group, lengths: tuple[Length, ...], rows: Int64s) -> Int64s:
        """Place the rows that stay at a resolution; return those that pass on."""
        passed = []
        for length in lengths:
            if not len(rows):
                break
            fits = self._num_frames[rows] >= length.config.num_frames
            tried, rows = _split(rows, fits)
            tried, unlucky = self._draw(length.length_key, length.config.length_probability, tried)
            kept, fallen = self._draw(length.keep_key, length.config.keep_probability, tried)
            ratio = group.resolution.nearest(self._height[kept] / self._width[kept])
            self._code[kept] = length.first_code + ratio
            rows = np.concatenate([rows, unlucky])
            passed.append(fallen)
        return np.concatenate([rows, *passed])

    def _draw(self, key: int, probability: float, rows: Int64s) -> tuple[Int64s, Int64s]:
        """Return the rows that were drawn, and the others."""
        if probability >= 1:
            return rows, rows[:0]
        return _split(rows, chance(key, rows + self._first_row, probability))


def _split(rows: Int64s, condition: npt.NDArray[np.bool_]) -> tuple[Int64s, Int64s]:
    """Return the rows where the condition holds, and the others.

    ``compress`` is several times faster than a mask of about equally many trues and falses.
    """
    return rows.compress(condition), rows.compress(~condition)


def _by_level(
    level: Int64s, is_image: npt.NDArray[np.bool_], num_levels: int
) -> Iterator[tuple[Int64s, Int64s]]:
    """Yield the videos and the images of each level, from the highest down to 1."""
    # Of 8 and 16 bits numpy's stable sort is a radix sort.
    kind = (2 * level + is_image).astype(np.min_scalar_type(2 * num_levels + 1))
    rows = np.argsort(kind, kind="stable")
    ends = np.cumsum(np.bincount(kind, minlength=2 * num_levels + 2))
    for place in range(2 * num_levels, 0, -2):
        yield rows[ends[place - 1] : ends[place]], rows[ends[place] : ends[place + 1]]


def _groups(config: BucketsConfig, key: tuple[int | str, ...]) -> Iterator[Group]:
    """Yield resolutions from most pixels down, each with its lengths from long to short."""
    named: dict[str, list[BucketConfig]] = {}
    for bucket in config.buckets:
        named.setdefault(bucket.resolution_name, []).append(bucket)
    tables = [_resolution(buckets[0].resolution) for buckets in named.values()]
    code = 0
    for table in sorted(tables, key=lambda table: -table.num_pixels):
        lengths = []
        for bucket in sorted(named[table.name], key=lambda bucket: -bucket.num_frames):
            name = (*key, bucket.resolution_name, bucket.num_frames)
            draws = random_key("bucket_length", *name), random_key("bucket_keep", *name)
            lengths.append(Length(bucket, code, *draws))
            code += len(table.keys)
        images = tuple(length for length in lengths if length.config.num_frames == 1)
        yield Group(table, images, tuple(length for length in lengths if length not in images))


def _resolution(resolution: str | FrameSize) -> Resolution:
    if isinstance(resolution, str):
        return named_resolution(resolution)
    height, width = resolution.height, resolution.width
    return Resolution(
        f"{height}x{width}",
        height * width,
        (str(height / width),),
        np.array([height]),
        np.array([width]),
    )
