"""Buckets as Open-Sora 1.2 assigns them, one row at a time.

A slow path, for checking against the reference and for reading what one of its runs did: each row
and bucket has a numpy generator of its own, lengths must exceed a bucket's frames, and sizes are
the tables' own, most of which the VAE cuts. `assign_buckets` is what training uses. The helpers are
the reference's too (``opensora/datasets/{aspect,utils,bucket}.py``, v1.2.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from kinetoscope.data.plan.aspect_tables import (
    NUM_FRAMES,
    named_resolution,
    resolution_names,
)
from kinetoscope.data.plan.config import BucketsConfig
from kinetoscope.parity.reference.aspect_ratios import ASPECT_RATIO_KEYS

Probability = float | tuple[float, float]
"""``keep``, or ``(keep, length)``."""
BucketId = tuple[str, int, str]
"""Resolution, frames, and key of the aspect ratio."""

_PIXEL_TOLERANCE = 0.8
# Keeps a product that rounding left just below a whole number on it.
_SIZE_EPSILON = 1e-4


class ReferenceBuckets:
    """Open-Sora's ``Bucket``.

    Args:
        config: Open-Sora's ``bucket_config``: by resolution and frames (1: images), the probability
            and the batch size. None as batch size is the reference's mark of a bucket that blocks.

    Raises:
        ValueError: no table has the name of a resolution.
    """

    def __init__(self, config: Mapping[str, Mapping[int, tuple[Probability, int | None]]]) -> None:
        pixels = {name: named_resolution(name).num_pixels for name in config}
        self._config = {
            name: dict(sorted(config[name].items(), reverse=True))
            for name in sorted(config, key=lambda name: pixels[name], reverse=True)
        }
        self._min_pixels = {name: _PIXEL_TOLERANCE * pixels[name] for name in config}
        names = [(name, frames) for name, lengths in self._config.items() for frames in lengths]
        self._numbers = {name: number for number, name in enumerate(names)}

    @property
    def num_buckets(self) -> int:
        """Resolutions times lengths times aspect ratios; spaces the rows' seeds."""
        return sum(len(named_resolution(name).keys) for name, _ in self._numbers)

    @property
    def numbers(self) -> dict[str, dict[int, int]]:
        """Number of each resolution and length, in the order they are tried; added to the seed."""
        return {
            name: {frames: self._numbers[name, frames] for frames in lengths}
            for name, lengths in self._config.items()
        }

    def table(self) -> dict[BucketId, tuple[tuple[int, int, int], Probability, int | None]]:
        """Return frames, height and width in pixels, the probability and the batch size of each."""
        return {
            (name, frames, ratio): ((frames, *size), probability, batch_size)
            for name, lengths in self._config.items()
            for frames, (probability, batch_size) in lengths.items()
            for ratio, size in named_resolution(name).sizes.items()
        }

    def bucket_of(
        self, num_frames: int, height: int, width: int, *, frame_interval: int = 1, seed: int
    ) -> BucketId | None:
        """Return the bucket of one row, or None.

        Args:
            num_frames: of the clip; 1 is an image.
            height: in pixels.
            width: in pixels.
            frame_interval: source frames per frame that is read.
            seed: of this row; the reference's sampler takes ``seed + epoch + row * num_buckets``.

        Raises:
            ValueError: an image reached an image bucket with two probabilities, which the
                reference can't compare with a draw.
        """
        for name in self._config:
            if height * width < self._min_pixels[name]:
                continue
            frames = (
                self._image(name, seed)
                if num_frames == 1
                else self._video(name, num_frames, frame_interval, seed)
            )
            if frames is not None:
                return name, frames, nearest_ratio(name, height, width)
        return None

    def _image(self, name: str, seed: int) -> int | None:
        if 1 not in self._config[name]:
            return None
        keep, _ = self._config[name][1]
        if isinstance(keep, tuple):
            raise ValueError(f"images of {name} need one probability, not {keep}")
        return 1 if self._generator(name, 1, seed).random() < keep else None

    def _video(self, name: str, num_frames: int, frame_interval: int, seed: int) -> int | None:
        for frames, (probability, _) in self._config[name].items():
            rng = self._generator(name, frames, seed)
            keep, try_length = probability if isinstance(probability, tuple) else (probability, 1)
            if isinstance(probability, tuple) and rng.random() > try_length:
                continue
            if frames != 1 and num_frames > frames * frame_interval:
                return frames if keep >= 1 or rng.random() < keep else None
        return None

    def _generator(self, name: str, frames: int, seed: int) -> np.random.Generator:
        return np.random.default_rng(seed + self._numbers[name, frames])


def reference_bucket_config(
    config: BucketsConfig,
) -> dict[str, dict[int, tuple[Probability, int | None]]]:
    """Return our buckets as Open-Sora's ``bucket_config``.

    Raises:
        ValueError: a bucket has an explicit size, or an image bucket a ``length_probability``,
            which Open-Sora has no way to say.
    """
    named: dict[str, dict[int, tuple[Probability, int | None]]] = {}
    for bucket in config.buckets:
        if not isinstance(bucket.resolution, str):
            raise ValueError(f"Open-Sora names its resolutions: no {bucket.resolution_name}")
        keep, length = bucket.keep_probability, bucket.length_probability
        if bucket.num_frames == 1 and length < 1:
            raise ValueError(f"Open-Sora has no length_probability for images: {length}")
        probability: Probability = keep if length == 1 else (keep, length)
        named.setdefault(bucket.resolution, {})[bucket.num_frames] = probability, bucket.batch_size
    return named


def nearest_ratio(resolution: str, height: int, width: int) -> str:
    """Return the key of the aspect ratio that is nearest to a size (``get_closest_ratio``)."""
    table = named_resolution(resolution)
    return table.keys[int(table.nearest(height / width))]


def reference_frame_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Return (height, width) in pixels as ``get_image_size`` looks it up, by the ratio's text.

    Raises:
        ValueError: the table has no such key: those of 256, 512, 1024, 2048 and 2880 say ``1.0``
            where the lookup wants ``1.00``, so not even 1:1.
    """
    sizes, key = named_resolution(resolution).sizes, ASPECT_RATIO_KEYS.get(aspect_ratio)
    if key is None or key not in sizes:
        raise ValueError(f"resolution {resolution!r} has no aspect ratio {aspect_ratio!r} ({key})")
    return sizes[key]


def reference_num_frames(length: str | float) -> int:
    """Return the frames of a length (``get_num_frames``), fractions cut off.

    Raises:
        ValueError: neither a name nor a number.
    """
    return NUM_FRAMES[length] if isinstance(length, str) and length in NUM_FRAMES else int(length)


def even_frame_size(ratio: float, num_pixels: int) -> tuple[int, int]:
    """Return (height, width) in even pixels of about an area (``get_h_w``).

    It does not give the tables' sizes: 144p differs in 13 of 17 rows.

    Args:
        ratio: height over width.
        num_pixels: the area.
    """
    height = _even_neighbour(math.sqrt(num_pixels * ratio) + _SIZE_EPSILON)
    return height, _even_neighbour(height / ratio + _SIZE_EPSILON)


def _even_neighbour(value: float) -> int:
    above = math.ceil(value)
    return above if above % 2 == 0 else math.floor(value)


def nearest_resolution(
    num_pixels: int, resolutions: Mapping[str, int] | None = None, tolerance: float = 0.8
) -> str | None:
    """Return the first resolution that an area reaches (``find_approximate_hw``).

    Args:
        num_pixels: the area.
        resolutions: pixels by name, most first; None: all tables.
        tolerance: share of a resolution's pixels that is enough.
    """
    if resolutions is None:
        pixels = {name: named_resolution(name).num_pixels for name in resolution_names()}
        resolutions = dict(sorted(pixels.items(), key=lambda item: -item[1]))
    fitting = (name for name, size in resolutions.items() if num_pixels >= size * tolerance)
    return next(fitting, None)


def first_fitting_length(
    num_frames: int, lengths: Sequence[int], frame_interval: int = 1
) -> int | None:
    """Return the first length that a clip has frames for (``find_closet_smaller_bucket``).

    Args:
        num_frames: of the clip; 1 is an image and takes length 1 alone.
        lengths: in frames, in the order they are tried.
        frame_interval: source frames per frame that is read.
    """
    if num_frames == 1:
        return 1 if 1 in lengths else None
    fitting = (n for n in lengths if n != 1 and num_frames >= n * frame_interval)
    return next(fitting, None)


def nearest_smaller(value: int, rising: Sequence[int]) -> int:
    """Return the largest entry up to a value, the first if all are larger.

    Open-Sora's ``closet_smaller_bucket``.
    """
    for smaller, larger in pairwise(rising):
        if value < larger:
            return smaller
    return rising[-1]
