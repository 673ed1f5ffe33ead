"""Configs of rectified flow: training times and sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from kinetoscope.core.config_model import Config


class RectifiedFlowConfig(Config):
    """How training times are drawn (Esser et al. 2024; Open-Sora 1.2 report)."""

    timestep_distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    logit_mean: float = 0.0
    logit_std: PositiveFloat = 1.0
    shift_by_size: bool = True
    """Move times towards noise for larger and longer clips, in training and sampling."""
    base_size_px: PositiveInt = 512
    """Side of the square image whose times are not moved."""
    shift_scale: PositiveFloat = 1.0


class SamplerConfig(Config):
    """Euler sampling with classifier-free guidance (Ho and Salimans 2022)."""

    num_steps: PositiveInt = 30
    guidance: float = Field(default=7.0, ge=0)
