"""The steps ``train_vae_N``: the stages of the video VAE."""

from __future__ import annotations

from pathlib import Path

from kinetoscope.artifacts.weights import read_weights
from kinetoscope.core.errors import ConfigError
from kinetoscope.models.tensor_files import open_weights
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.loop.surroundings import surroundings_of
from kinetoscope.training.loop.task import Task
from kinetoscope.training.loop.trainer import fit
from kinetoscope.training.vae.adversary import Adversary, start_adversary
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.feed import vae_task
from kinetoscope.training.vae.objective import VideoVAEObjective
from kinetoscope.training.vae.start import start_video_vae


def main(ctx: StepContext) -> Outputs | None:
    """Train one stage; the checkpoint holds the whole video VAE whatever was trained of it."""
    config = TrainVAEConfig.model_validate(ctx.config)
    return fit(surroundings_of(ctx, config.loop), video_vae_task(ctx, config), config.loop)


def video_vae_task(ctx: StepContext, config: TrainVAEConfig) -> Task:
    """Return the work of a stage."""
    model = _start(ctx, config)
    channels = config.model.temporal.latent_channels
    return vae_task(
        ctx,
        config,
        VideoVAEObjective(model, config, _adversary(ctx, config)),
        lambda size: (channels, *model.latent_size(size)),
    )


def _adversary(ctx: StepContext, config: TrainVAEConfig) -> Adversary | None:
    if config.adversarial is None:
        return None
    return start_adversary(config.adversarial, ctx.name, ctx.seed)


def _start(ctx: StepContext, config: TrainVAEConfig) -> VideoVAE:
    """Build the VAE with the previous step's weights, or with the spatial VAE's from a file."""
    model = initialised(lambda: VideoVAE(config.model), ctx.name, ctx.seed)
    previous = ctx.inputs.get("previous")
    if previous is not None:
        start_video_vae(model, read_weights(previous))
    elif config.spatial_weights is not None:
        report = start_video_vae(model, open_weights(Path(config.spatial_weights)))
        ctx.log.info("loaded %s: %s", config.spatial_weights, report.describe())
    else:
        raise ConfigError(
            f"{ctx.name} has no spatial VAE to build on: no previous step and no spatial_weights",
            hint="configure train_spatial_vae, or give spatial_weights",
        )
    return model


if __name__ == "__main__":
    run_worker(main, has_metrics=True)
