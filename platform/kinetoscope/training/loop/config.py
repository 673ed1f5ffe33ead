"""Config of the training loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.models.config import Precision
from kinetoscope.training.engine.config import EngineName, OptimizerConfig


class LRScheduleConfig(Config):
    """The learning rate as a pure function of the step."""

    kind: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up: step i (from 0) has (i + 1) / (warmup_steps + 1) of the rate."""
    final_ratio: float = Field(default=0.0, ge=0, le=1)
    """What cosine leaves of the rate after the last step."""


class TrainLoopConfig(Config):
    """What all training steps have in common."""

    engine: Annotated[EngineName, Effect.NONE] = "torch_ddp"
    """What spreads training over ranks. Checkpoints are the same of all, so a stage may go on with
    another one; the ``colossalai_`` ones need an environment of their own (docs/training.md)."""
    num_steps: PositiveInt
    """Optimizer steps; the step is done after this many."""
    micro_batches_per_step: PositiveInt = 1
    """Batches of one optimizer step over all ranks; the number of ranks must divide it."""
    optimizer: OptimizerConfig
    schedule: LRScheduleConfig = LRScheduleConfig()
    grad_clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; larger ones are scaled down. None: not clipped."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the averaged weights. None: no average is kept."""
    checkpoint_every_steps: Annotated[PositiveInt, Effect.NONE] = 200
    keep_checkpoints: Annotated[PositiveInt, Effect.NONE] = 2
    log_every_steps: Annotated[PositiveInt, Effect.NONE] = 10
    dtype: Precision = "fp32"
    """Precision of the forward pass; weights, optimizer and average are fp32 always."""
    prefetch_steps: Annotated[PositiveInt, Effect.NONE] = 2
    """Steps whose batches are loaded ahead of their use."""
    cache_mib: Annotated[NonNegativeInt, Effect.NONE] = 512
    """Decoded clips that a rank keeps in memory."""
