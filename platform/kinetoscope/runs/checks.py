"""Tell, as soon as the data is prepared, whether every training stage can form batches of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import DataError
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.open import as_local, open_store

if TYPE_CHECKING:
    from kinetoscope.data.plan.config import PlanConfig
    from kinetoscope.training.loop.config import TrainLoopConfig


def check_plans(config: RunConfig, clips: StepResult) -> None:
    """Plan the first epoch of every stage, which costs no decoding.

    Args:
        config: the run's.
        clips: result of ``prepare_data``.

    Raises:
        DataError: naming the stage, the clips, and why they fit none of its buckets.
    """
    from kinetoscope.data.clip_table import read_clip_table
    from kinetoscope.data.plan.batch_plan import BatchPlan

    store = open_store(clips.artifact("clips").uri)
    with tempfile.TemporaryDirectory() as scratch:
        table = read_clip_table(as_local(store, "clips.parquet", Path(scratch))).split("train")
    stride = config.models.vae.spatial.stride
    _, rows, columns = config.models.dit.patch_size
    for path, plan, loop in _plans(config):
        in_patches = path.startswith("train_dit")
        try:
            BatchPlan(
                table,
                plan,
                micro_batches_per_step=loop.micro_batches_per_step,
                seed=config.seed,
                stride=(stride * rows, stride * columns) if in_patches else (stride, stride),
            ).epoch(0)
        except DataError as error:
            raise DataError(f"{path}.plan: {error.message}", hint=error.hint) from None


def _plans(config: RunConfig) -> Iterator[tuple[str, PlanConfig, TrainLoopConfig]]:
    if config.train_spatial_vae is not None:
        yield "train_spatial_vae", config.train_spatial_vae.plan, config.train_spatial_vae.loop
    for index, vae_stage in enumerate(config.train_vae):
        yield f"train_vae.{index}", vae_stage.plan, vae_stage.loop
    for index, dit_stage in enumerate(config.train_dit):
        yield f"train_dit.{index}", dit_stage.plan, dit_stage.loop
