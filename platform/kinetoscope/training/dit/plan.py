"""The plans of the DiT stages."""

from __future__ import annotations

from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.batch_plan import BatchPlan
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.training.dit.config import CachedPlan


def dit_plan(table: ClipTable, plan: CachedPlan, *, vae: VideoVAEConfig, seed: int) -> BatchPlan:
    """Return a stage's plan; the encoder and the stage must agree on every argument.

    Args:
        table: the clips that are trained on.
        plan: buckets and micro-batches of the stage.
        vae: its stride and the plan's patches cut the buckets' sizes.
        seed: of the run.
    """
    rows, columns = plan.patch_size
    return BatchPlan(
        table,
        plan.buckets,
        micro_batches_per_step=plan.micro_batches_per_step,
        seed=seed,
        stride=(vae.spatial.stride * rows, vae.spatial.stride * columns),
    )
