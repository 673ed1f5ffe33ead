"""Sizes that a run samples or measures at, against those that its stages train at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from kinetoscope.config.problems import Problem
from kinetoscope.config.run import RunConfig
from kinetoscope.config.tree import Path
from kinetoscope.data.plan.config import BucketConfig, FrameSize
from kinetoscope.data.plan.resolution_tables import resolution_tables
from kinetoscope.inference.config import ClipSize
from kinetoscope.training.dit.config import DiTStage

# Sizes of a table are rounded, and then cut to whole patches.
_TOLERANCE = 0.05
# A loss at a size or length this many times another says nothing of what was trained there.
_FAR = 4
_MAX_NAMED = 8


class _Trained(NamedTuple):
    """What a bucket trains at: a length, and (height, width) of every aspect ratio."""

    name: str
    num_frames: int
    sizes: list[tuple[int, int]]


def sizes_off_training(config: RunConfig) -> Iterator[Problem]:
    """Yield the sizes at which the models can't do well, since nothing like them is trained.

    Samples must lie within the lengths and sizes of the last stage of the transformer, between
    those of its buckets that give batches. What is only measured is refused where it is far off.
    """
    last = len(config.train_dit) - 1
    planned = ("train_dit", str(last), "plan", "buckets")
    for path, told in _sample_size(config.models.sample_size, config.train_dit[last]):
        yield Problem(path, told, (planned,))
    buckets = list(chain.from_iterable(map(_trained, config.train_dit)))
    for index, size in enumerate(config.evaluate_dit.rf_loss.sizes):
        path = ("evaluate_dit", "rf_loss", "sizes", str(index))
        longest = max(bucket.num_frames for bucket in buckets)
        if size.num_frames > _FAR * longest:
            told = f"{size.num_frames} frames, but clips of at most {longest} are trained"
            yield Problem(path, told, (("train_dit",),))
        elif _is_far(size, _sizes(buckets)):
            told = _told(size, "the stages of the transformer train", buckets)
            yield Problem(path, told, (("train_dit",),))
    plans = [stage.plan for stage in config.train_vae]
    videos = [
        _Trained(f"{plan.height}x{plan.width}", plan.num_frames, [(plan.height, plan.width)])
        for plan in plans
    ]
    if _is_far(config.evaluate_vae.size, _sizes(videos)):
        told = _told(config.evaluate_vae.size, "the stages of the VAE train", videos)
        yield Problem(("evaluate_vae", "size"), told, (("train_vae",),))


def _sample_size(size: ClipSize, stage: DiTStage) -> Iterator[tuple[Path, str]]:
    path, buckets = ("models", "sample_size"), _trained(stage)
    long_enough = [bucket for bucket in buckets if bucket.num_frames >= size.num_frames]
    if not long_enough:
        longest = max(bucket.num_frames for bucket in buckets)
        told = (
            f"{size.num_frames} frames, but the last stage of the transformer trains on at most "
            f"{longest}"
        )
        yield (*path, "num_frames"), told
    elif not _is_within(size, _sizes(long_enough)):
        yield path, _told(size, "the last stage of the transformer trains", long_enough)


def _trained(stage: DiTStage) -> list[_Trained]:
    return [
        _Trained(bucket.resolution_name, bucket.num_frames, _sizes_of(bucket))
        for bucket in stage.plan.buckets
        if bucket.keep_probability * bucket.length_probability
    ]


def _sizes_of(bucket: BucketConfig) -> list[tuple[int, int]]:
    if isinstance(bucket.resolution, FrameSize):
        return [(bucket.resolution.height, bucket.resolution.width)]
    sizes = resolution_tables()[bucket.resolution]["sizes"].values()
    return [(height, width) for height, width in sizes]


def _sizes(buckets: Iterable[_Trained]) -> list[tuple[int, int]]:
    return [size for bucket in buckets for size in bucket.sizes]


def _is_within(size: ClipSize, sizes: list[tuple[int, int]]) -> bool:
    """Tell whether sides and area lie between the smallest and the largest."""
    trained = [(height, width, height * width) for height, width in sizes]
    given = (size.height, size.width, size.height * size.width)
    return all(
        min(known) * (1 - _TOLERANCE) <= value <= max(known) * (1 + _TOLERANCE)
        for value, known in zip(given, zip(*trained, strict=True), strict=True)
    )


def _is_far(size: ClipSize, sizes: list[tuple[int, int]]) -> bool:
    areas = [height * width for height, width in sizes]
    area = size.height * size.width
    return area * _FAR**2 < min(areas) or area > max(areas) * _FAR**2


def _told(size: ClipSize, who: str, buckets: list[_Trained]) -> str:
    names = list(dict.fromkeys(bucket.name for bucket in buckets))
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{size.height}x{size.width} pixels, but {who} at {', '.join(names[:_MAX_NAMED])}{more}"
