"""The steps ``train_dit_N``: the stages of the diffusion transformer."""

from __future__ import annotations

from pathlib import Path

import torch

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.artifacts.latents import open_latent_index, open_latents
from kinetoscope.artifacts.weights import load_autoencoder, read_weights
from kinetoscope.checkpoints.restore import restore_weights
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.conditioning import count_too_long
from kinetoscope.data.plan.cycling import CyclingPlan
from kinetoscope.models.base import Transformer, build_transformer, load_pretrained
from kinetoscope.models.device import begin_computing
from kinetoscope.models.tensor_files import open_weights
from kinetoscope.models.text.encoders import build_text_encoder
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.training.clip_feed import ClipFeed
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.dit.feed import CachedFeed, FlowDraws, PixelFeed
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.dit.plan import dit_plan
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.loop.surroundings import surroundings_of
from kinetoscope.training.loop.task import Task
from kinetoscope.training.loop.trainer import fit


def main(ctx: StepContext) -> Outputs | None:
    """Train one stage, from the previous one's weights where there is one."""
    config = TrainDiTConfig.model_validate(ctx.config)
    table = open_clips(ctx.inputs["clips"], ctx.videos).split("train")
    make = _cached_task if config.use_cache else _pixel_task
    task = make(ctx, config, table)
    around = surroundings_of(ctx, config.loop)
    return fit(around, task, config.loop, sequence_parallel=config.sequence_parallel)


def _cached_task(ctx: StepContext, config: TrainDiTConfig, table: ClipTable) -> Task:
    """Train on the latent cache, normalised as it says."""
    reader = open_latents(ctx.inputs["latents"], cache_mib=config.loop.cache_mib)
    objective = FlowObjective(
        _start(ctx, config), config.flow, shift=reader.shift, scale=reader.scale
    )
    plan = dit_plan(table, config.cached_plan, seed=ctx.seed)
    cycling = CyclingPlan(plan, num_draws=config.num_draws, seed=ctx.seed)
    draws = FlowDraws(config, (ctx.name, ctx.seed))
    feed = CachedFeed(reader, table, draws, model=objective.model)
    return Task(objective, cycling, feed.load)


def _pixel_task(ctx: StepContext, config: TrainDiTConfig, table: ClipTable) -> Task:
    """Train on clips that the VAE encodes as they come; the cache just gives the normalisation."""
    vae = load_autoencoder(config.vae, ctx.inputs["vae"])
    shift, scale = _normalization(ctx, config)
    objective = FlowObjective(_start(ctx, config), config.flow, shift=shift, scale=scale, vae=vae)
    channels = config.vae.latent_channels
    compute = begin_computing(config.loop.dtype, ctx.local_rank)
    text_encoder = build_text_encoder(
        config.text_encoder, device=compute.device, dtype=compute.dtype
    )
    if ctx.rank == 0 and (num_cut := count_too_long(table.text, text_encoder)):
        ctx.log.warning("%d of %d captions are cut, their scores are not", num_cut, len(table))
    feed = PixelFeed(
        ClipFeed(table, cache_mib=config.loop.cache_mib),
        table,
        text_encoder,
        FlowDraws(config, (ctx.name, ctx.seed)),
        latent_shape=lambda size: (channels, *vae.latent_size(size)),
        model=objective.model,
    )
    plan = dit_plan(table, config.cached_plan, seed=ctx.seed)
    return Task(objective, plan, feed.load)


def _normalization(ctx: StepContext, config: TrainDiTConfig) -> tuple[torch.Tensor, torch.Tensor]:
    if "latents" not in ctx.inputs:
        channels = config.vae.latent_channels
        return torch.zeros(channels), torch.ones(channels)
    index = open_latent_index(ctx.inputs["latents"])
    return torch.tensor(index.shift), torch.tensor(index.scale)


def _start(ctx: StepContext, config: TrainDiTConfig) -> Transformer:
    """Build the transformer: random, from a file, or as the previous stage left it."""
    model = initialised(lambda: build_transformer(config.model), ctx.name, ctx.seed)
    if "previous" in ctx.inputs:
        restore_weights(model, read_weights(ctx.inputs["previous"]))
    elif config.init_weights is not None:
        weights = open_weights(Path(config.init_weights))
        report = load_pretrained(model, weights, layout=config.init_format)
        ctx.log.info("loaded %s: %s", config.init_weights, report.describe())
    return model


if __name__ == "__main__":
    run_worker(main, has_metrics=True)
