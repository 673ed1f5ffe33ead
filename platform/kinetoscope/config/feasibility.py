"""What a config alone shows to be impossible: sizes no model takes, lengths no clip has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kinetoscope.data.plan.config import FrameSize

if TYPE_CHECKING:
    from kinetoscope.config.run import RunConfig


def problems(config: RunConfig) -> Iterator[str]:
    """Yield what is wrong, naming keys, values, and what is allowed."""
    yield from _sizes_off_the_stride(config)
    yield from _buckets_off_the_patches(config)
    yield from _lengths_no_clip_has(config)


def _sizes_off_the_stride(config: RunConfig) -> Iterator[str]:
    stride = config.models.vae.spatial.stride
    for path, height, width in _sizes(config):
        if height % stride or width % stride:
            yield (
                f"{path}: {height}x{width} pixels; models.vae halves height and width "
                f"{stride.bit_length() - 1} times, so both must be multiples of {stride}"
            )


def _buckets_off_the_patches(config: RunConfig) -> Iterator[str]:
    stride = config.models.vae.spatial.stride
    _, rows, columns = config.models.dit.patch_size
    multiple = stride * rows, stride * columns
    for path, height, width in _sizes(config):
        whole = height % multiple[0] == width % multiple[1] == 0
        if path.startswith("train_dit") and not whole:
            yield (
                f"{path}: {height}x{width} pixels; models.vae and models.dit.patch_size make "
                f"patches of {multiple[0]}x{multiple[1]} pixels, and training wants whole ones"
            )


def _sizes(config: RunConfig) -> Iterator[tuple[str, int, int]]:
    plans = {f"train_vae.{i}.plan": stage.plan for i, stage in enumerate(config.train_vae)}
    if config.train_spatial_vae is not None:
        plans["train_spatial_vae.plan"] = config.train_spatial_vae.plan
    for path, plan in plans.items():
        yield path, plan.height, plan.width
    for index, stage in enumerate(config.train_dit):
        for number, bucket in enumerate(stage.plan.buckets):
            if isinstance(bucket.resolution, FrameSize):
                path = f"train_dit.{index}.plan.buckets.{number}.resolution"
                yield path, bucket.resolution.height, bucket.resolution.width
    sizes = {"models.sample_size": config.models.sample_size}
    sizes["evaluate_vae.size"] = config.evaluate_vae.size
    sizes |= {
        f"evaluate_dit.rf_loss.sizes.{i}": size
        for i, size in enumerate(config.evaluate_dit.rf_loss.sizes)
    }
    for path, size in sizes.items():
        yield path, size.height, size.width


def _lengths_no_clip_has(config: RunConfig) -> Iterator[str]:
    scenes = config.prepare_data.scenes
    limits = {
        "prepare_data.filters.max_frames": config.prepare_data.filters.max_frames,
        "prepare_data.scenes.max_scene_frames": scenes.max_scene_frames if scenes.enabled else None,
    }
    for limit_path, limit in limits.items():
        for path, num_frames in _shortest_lengths(config):
            if limit is not None and num_frames > limit:
                yield (
                    f"{path} needs clips of {num_frames} frames, but {limit_path}={limit} leaves "
                    f"none so long: it can never give a batch"
                )


def _shortest_lengths(config: RunConfig) -> Iterator[tuple[str, int]]:
    for index, stage in enumerate(config.train_vae):
        yield f"train_vae.{index}.plan.num_frames", stage.plan.num_frames
    for index, dit_stage in enumerate(config.train_dit):
        shortest = min(bucket.num_frames for bucket in dit_stage.plan.buckets)
        yield f"train_dit.{index}.plan.buckets", shortest
