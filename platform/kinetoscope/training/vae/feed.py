"""Batches for the VAE: pixels, and the noise of the posterior's draw."""

from __future__ import annotations

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.data.plan.batch_plan import BatchPlan, MicroBatch
from kinetoscope.diffusion.rectified_flow import keyed_noise
from kinetoscope.steps.worker import StepContext
from kinetoscope.training.clip_feed import ClipFeed, LatentShape, sample_keys
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.loop.task import Batch, Task
from kinetoscope.training.vae.config import SpatialVAEStage, VAEStage


class VAEFeed:
    """Batches for the VAE: ``pixels`` B T H W C (uint8) and the ``noise`` of the posterior's draw.

    Args:
        clips: where pixels come from.
        latent_shape: gives the noise's shape.
        key: name of the training step, and seed of the run.
    """

    def __init__(self, clips: ClipFeed, latent_shape: LatentShape, key: tuple[str, int]) -> None:
        self._clips = clips
        self._latent_shape = latent_shape
        self._key = key

    def load(self, epoch: int, micro_batch: MicroBatch) -> Batch:
        """Load one micro-batch."""
        bucket, items = micro_batch.bucket, micro_batch.items
        keys = sample_keys("posterior", self._key, epoch, items)
        size = (bucket.num_frames, bucket.height, bucket.width)
        tensors = {
            "pixels": self._clips.levels(bucket, items),
            "noise": keyed_noise(keys, self._latent_shape(size)),
        }
        return Batch(tensors, num_samples=len(items))


def vae_task(
    ctx: StepContext,
    stage: SpatialVAEStage | VAEStage,
    objective: Objective,
    latent_shape: LatentShape,
) -> Task:
    """Return the work of a stage of either VAE: its objective on the clips of the training split.

    Args:
        ctx: of the step.
        stage: its plan and loop.
        objective: what is trained, and to what end.
        latent_shape: gives the noise's shape.
    """
    table = open_clips(ctx.inputs["clips"], ctx.videos).split("train")
    clips = ClipFeed(table, cache_mib=stage.loop.cache_mib)
    plan = BatchPlan(
        table,
        stage.plan,
        micro_batches_per_step=stage.loop.micro_batches_per_step,
        seed=ctx.seed,
    )
    return Task(objective, plan, VAEFeed(clips, latent_shape, (ctx.name, ctx.seed)).load)
