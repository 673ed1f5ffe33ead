"""Data of the smoke job: the real plan over clips that do not exist, with drawn latents."""

from __future__ import annotations

import torch

from kinetoscope.core.keys import random_key
from kinetoscope.data.clip_table import ClipRow, ClipTable
from kinetoscope.data.latents.format import LatentSample
from kinetoscope.data.plan.cycling import CyclingPlan
from kinetoscope.diffusion.rectified_flow import keyed_noise
from kinetoscope.models.base import build_transformer
from kinetoscope.models.text.encoders import TextEncoder, build_text_encoder
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.dit.feed import CachedFeed, FlowDraws
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.dit.plan import dit_plan
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.loop.task import Task

STAGE = "smoke"
_SEED = 0
_STEPS_PER_EPOCH = 4
_LOGVAR = -4.0
_CAPTIONS = ("a red ball", "a blue square", "a green star", "waves")


def smoke_task(config: TrainDiTConfig) -> Task:
    """Return the objective and the plan of a stage with one bucket, as ``train_dit`` makes them.

    Batches and first weights are functions of the config alone, the same on every rank.
    """
    shape = _latent_shape(config)
    table = _clips(config)
    channels = config.vae.latent_channels
    model = initialised(lambda: build_transformer(config.model), STAGE, _SEED)
    plan = dit_plan(table, config.cached_plan, seed=_SEED)
    feed = CachedFeed(
        _DrawnLatents(table, shape, build_text_encoder(config.text_encoder)),
        table,
        FlowDraws(config, (STAGE, _SEED)),
        model=model,
    )
    return Task(
        FlowObjective(model, config.flow, shift=torch.zeros(channels), scale=torch.ones(channels)),
        CyclingPlan(plan, num_draws=config.num_draws, seed=_SEED),
        feed.load,
    )


class _DrawnLatents:
    """Latents that are functions of the clip's number."""

    def __init__(self, table: ClipTable, shape: tuple[int, ...], encoder: TextEncoder) -> None:
        self._numbers = {clip_id: number for number, clip_id in enumerate(table.clip_id)}
        self._table = table
        self._shape = shape
        self._encoder = encoder

    def find(self, clip_id: str, start_frame: int, num_frames: int, size: tuple[int, int]) -> int:
        del start_frame, num_frames, size  # every clip is one window of the only bucket
        return self._numbers[clip_id]

    def read(self, number: int) -> LatentSample:
        text, mask = self._encoder.encode([self._table.text[number]])
        mean = keyed_noise([random_key("smoke_latents", _SEED, number)], self._shape)[0]
        return LatentSample(mean, torch.full_like(mean, _LOGVAR), text[0], mask[0])


def _latent_shape(config: TrainDiTConfig) -> tuple[int, ...]:
    frames, height, width = _size(config)
    return (config.model.in_channels, *config.vae.latent_size((frames, height, width)))


def _clips(config: TrainDiTConfig) -> ClipTable:
    (bucket,) = config.plan.buckets
    frames, height, width = _size(config)
    count = bucket.batch_size * config.loop.micro_batches_per_step * _STEPS_PER_EPOCH
    return ClipTable.from_rows(
        ClipRow(
            clip_id=f"drawn-{number}",
            video=f"drawn-{number}",
            start_frame=0,
            num_frames=frames,
            fps=8.0,
            height=height,
            width=width,
            caption="",
            text=_CAPTIONS[number % len(_CAPTIONS)],
            scores={},
            split="train",
            group=number,
            digest="",
        )
        for number in range(count)
    )


def _size(config: TrainDiTConfig) -> tuple[int, int, int]:
    (bucket,) = config.plan.buckets
    assert not isinstance(bucket.resolution, str)
    return bucket.num_frames, bucket.resolution.height, bucket.resolution.width
