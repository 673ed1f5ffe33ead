"""Configs of batch plans: which clips, at what size and length, form the batches of training."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from kinetoscope.core.config_model import Config

NamedResolution = Literal[
    "144p",
    "240p",
    "256",
    "360p",
    "480p",
    "512",
    "720p",
    "1024",
    "1080p",
    "2k",
    "2048",
    "2880",
    "4k",
]
"""A table of sizes of about equal area, one per aspect ratio (``aspect_ratios.json``)."""


class FrameSize(Config):
    """One size in pixels, whatever a clip's aspect ratio: clips are cropped to it."""

    height: PositiveInt
    width: PositiveInt


class BucketConfig(Config):
    """Batches of one resolution and length."""

    resolution: NamedResolution | FrameSize
    num_frames: PositiveInt
    """Frames of a sample; 1 takes images."""
    keep_probability: float = Field(default=1.0, ge=0, le=1)
    """Share of the fitting clips that stay; the others fall to the next smaller resolution."""
    length_probability: float = Field(default=1.0, ge=0, le=1)
    """Share of the fitting clips that try this length; the others try the next shorter one."""
    batch_size: PositiveInt = 1

    @property
    def resolution_name(self) -> str:
        """The resolution as text: ``240p``, or ``32x32`` (height first) for an explicit size."""
        if isinstance(self.resolution, FrameSize):
            return f"{self.resolution.height}x{self.resolution.width}"
        return self.resolution

    @property
    def nominal_size(self) -> tuple[int, int, int]:
        """Frames, height and width in pixels: of a named resolution, the square of its area."""
        if isinstance(self.resolution, FrameSize):
            return self.num_frames, self.resolution.height, self.resolution.width
        # Not at the top: numpy takes longer to import than a config to check.
        from kinetoscope.data.plan.aspect_tables import named_resolution

        side = math.isqrt(named_resolution(self.resolution).num_pixels)
        return self.num_frames, side, side


class BucketsConfig(Config):
    """How clips are sorted into buckets (facts: Open-Sora 1.2's ``bucket_config``).

    A bucket with ``keep_probability: 0`` blocks: clips that reach it fall to the next smaller
    resolution, however small their chance of a shorter length was.
    """

    buckets: tuple[BucketConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _buckets_are_usable(self) -> Self:
        names = Counter((bucket.resolution_name, bucket.num_frames) for bucket in self.buckets)
        twice = [f"{name} x {frames}" for (name, frames), count in names.items() if count > 1]
        if twice:
            raise ValueError(f"buckets lists a resolution and length more than once: {twice}")
        if not any(bucket.keep_probability * bucket.length_probability for bucket in self.buckets):
            raise ValueError(
                "buckets can never give a batch: each has keep_probability 0 or "
                "length_probability 0"
            )
        return self


class ClipPlanConfig(Config):
    """Batches of one size, for the VAE."""

    num_frames: PositiveInt
    height: PositiveInt
    width: PositiveInt
    batch_size: PositiveInt = 1
    lengths: Literal["fixed", "image_mix", "random"] = "fixed"
    """fixed: all of num_frames; image_mix: single frames with image_probability, else num_frames;
    random: one length per batch, uniform in 1 to num_frames."""
    image_probability: float = Field(default=0.2, ge=0, le=1)
    """Share of the batches that are single frames (image_mix)."""
    image_batch_size: PositiveInt = 1
    """Samples of a batch of single frames (image_mix)."""
    frames_per_batch: PositiveInt | None = None
    """Frames of a batch of random length, about: its samples are frames_per_batch // length, at
    least 1. None: batch_size samples of whatever length (random)."""

    @model_validator(mode="after")
    def _fields_fit_the_lengths(self) -> Self:
        if self.frames_per_batch is not None and self.lengths != "random":
            raise ValueError(
                f"frames_per_batch={self.frames_per_batch} has a meaning for lengths='random' "
                f"only, not for lengths={self.lengths!r}"
            )
        return self


PlanConfig = BucketsConfig | ClipPlanConfig
