"""Tell, as soon as the data is prepared, whether every training stage can form batches of it."""

from __future__ import annotations

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import DataError
from kinetoscope.steps.contract import StepResult


def check_plans(config: RunConfig, clips: StepResult) -> None:
    """Plan the first epoch of every stage, which costs no decoding.

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
