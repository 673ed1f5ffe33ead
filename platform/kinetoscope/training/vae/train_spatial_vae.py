"""The step ``train_spatial_vae``: the spatial VAE on single frames."""

from __future__ import annotations

from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.loop.surroundings import surroundings_of
from kinetoscope.training.loop.task import Task
from kinetoscope.training.loop.trainer import fit
from kinetoscope.training.vae.config import TrainSpatialVAEConfig
from kinetoscope.training.vae.feed import vae_task
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective


def main(ctx: StepContext) -> Outputs | None:
    """Train the spatial VAE from random weights."""
    config = TrainSpatialVAEConfig.model_validate(ctx.config)
    return fit(surroundings_of(ctx, config.loop), spatial_vae_task(ctx, config), config.loop)


def spatial_vae_task(ctx: StepContext, config: TrainSpatialVAEConfig) -> Task:
    """Return the work of the step."""
    model = initialised(lambda: SpatialVAE(config.model), ctx.name, ctx.seed)
    channels, stride = config.model.latent_channels, config.model.stride
    return vae_task(
        ctx,
        config,
        SpatialVAEObjective(model, config.loss),
        lambda size: (channels, size[1] // stride, size[2] // stride),
    )


if __name__ == "__main__":
    run_worker(main, has_metrics=True)
