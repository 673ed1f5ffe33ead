"""The plans of the DiT stages."""

from __future__ import annotations

from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.batch_plan import BatchPlan
from kinetoscope.training.dit.config import CachedPlan


def dit_plan(table: ClipTable, plan: CachedPlan, *, seed: int) -> BatchPlan:
    """Return a stage's plan; the encoder and the stage must agree on every argument.

    Args:
        table: the clips that are trained on.
        plan: of the stage.
        seed: of the run.
    """
    return BatchPlan(
        table,
        plan.buckets,
        micro_batches_per_step=plan.micro_batches_per_step,
        seed=seed,
        stride=plan.pixel_multiple,
        cost=plan.cost,
    )
