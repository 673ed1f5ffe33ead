"""Tell, as soon as the data is prepared, what batches every training stage can form of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import DataError
from kinetoscope.data.plan.config import BucketsConfig
from kinetoscope.data.report.bucket_table import BucketTable
from kinetoscope.steps.contract import StepResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]


def check_plans(config: RunConfig, clips: StepResult) -> dict[str, BucketTable]:
    """Plan the first epoch of every stage, which costs no decoding; return `stage_buckets`.

    Args:
        config: the run's.
        clips: result of ``prepare_data``.

    Raises:
        DataError: naming the stage, the clips, and why they fit none of its buckets.
    """
    from kinetoscope.artifacts.clips import open_clips
    from kinetoscope.data.plan.batch_plan import BatchPlan

    table = open_clips(clips).split("train")
    for stage in config.stages():
        try:
            BatchPlan(
                table,
                stage.plan,
                micro_batches_per_step=stage.loop.micro_batches_per_step,
                seed=config.seed,
                stride=stage.pixel_multiple,
            ).epoch(0)
        except DataError as error:
            raise DataError(f"{stage.path}.plan: {error.message}", hint=error.hint) from None
    return stage_buckets(config, (table.num_frames, table.height, table.width))


def stage_buckets(
    config: RunConfig, columns: tuple[Int64s, Int64s, Int64s]
) -> dict[str, BucketTable]:
    """Return how clips fall into the buckets, by the step of each stage that has some.

    Args:
        config: of the run.
        columns: num_frames, height and width of the clips to train on, in the clip table's order.
    """
    from kinetoscope.data.report.bucket_counts import count_buckets

    return {
        stage.step: count_buckets(
            stage.plan, columns, stride=stage.pixel_multiple, seed=config.seed
        )
        for stage in config.stages()
        if isinstance(stage.plan, BucketsConfig)
    }
