"""Configs of engines and optimizers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from kinetoscope.core.config_model import Config

EngineName = Literal["torch_ddp", "colossalai_ddp"]


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _betas_below_one(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must each be in [0, 1)")
        return self
