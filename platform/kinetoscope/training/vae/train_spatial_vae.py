"""The step ``train_spatial_vae``: the spatial VAE on single frames."""

from __future__ import annotations

from kinetoscope.data.plan.batch_plan import BatchPlan
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.training.clip_feed import ClipFeed, read_train_clips
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.loop.surroundings import surroundings_of
from kinetoscope.training.loop.task import Task
from kinetoscope.training.loop.trainer import fit
from kinetoscope.training.vae.config import TrainSpatialVAEConfig
from kinetoscope.training.vae.feed import VAEFeed
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective


def main(ctx: StepContext) -> Outputs | None:
    """Train the spatial VAE from random weights."""
    config = TrainSpatialVAEConfig.model_validate(ctx.config)
    return fit(surroundings_of(ctx, config.loop), spatial_vae_task(ctx, config), config.loop)


def spatial_vae_task(ctx: StepContext, config: TrainSpatialVAEConfig) -> Task:
    """Return the work of the step."""
    table = read_train_clips(ctx.inputs["clips"], ctx.scratch)
    model = initialised(lambda: SpatialVAE(config.model), ctx.name, ctx.seed)
    channels, stride = config.model.latent_channels, config.model.stride
    feed = VAEFeed(
        ClipFeed(table, cache_mib=config.loop.cache_mib),
        lambda size: (channels, size[1] // stride, size[2] // stride),
        (ctx.name, ctx.seed),
    )
    plan = BatchPlan(
        table,
        config.plan,
        micro_batches_per_step=config.loop.micro_batches_per_step,
        seed=ctx.seed,
    )
    return Task(SpatialVAEObjective(model, config.loss), plan, feed.load)


if __name__ == "__main__":
    run_worker(main)
