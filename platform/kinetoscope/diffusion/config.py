"""Configs of rectified flow: training times, sampling and frame masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt

from kinetoscope.core.config_model import Config

FrameMaskName = Literal[
    "identity",
    "quarter_random",
    "quarter_head",
    "quarter_tail",
    "quarter_head_tail",
    "image_random",
    "image_head",
    "image_tail",
    "image_head_tail",
    "random",
    "interpolate",
]
"""Ways to choose the frames that training conditions on (`frame_masks.draw_frame_masks`)."""

_ALIASES = {"intepolate": "interpolate"}
"""Open-Sora 1.2's spelling."""

_SUM_TOLERANCE = 1e-6


def _by_our_names(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    names = [_ALIASES.get(name, name) for name in value]
    if len(set(names)) < len(names):
        raise ValueError(f"{sorted(map(str, value))} names a frame mask twice")
    return dict(zip(names, value.values(), strict=True))


def _probabilities(value: dict[FrameMaskName, float]) -> dict[FrameMaskName, float]:
    total = sum(value.values())
    if total > 1 + _SUM_TOLERANCE:
        raise ValueError(f"the probabilities of the frame masks sum to {total:g}, more than 1")
    return value


FrameMaskRatios = Annotated[
    dict[FrameMaskName, Annotated[float, Field(ge=0, le=1)]],
    BeforeValidator(_by_our_names),
    AfterValidator(_probabilities),
]
"""Probability of each frame mask; what is left to 1 goes to ``identity``, which masks nothing."""


class RectifiedFlowConfig(Config):
    """How training times are drawn (Esser et al. 2024; Open-Sora 1.2 report)."""

    timestep_distribution: Literal["logit_normal", "uniform", "discrete"] = "logit_normal"
    """``discrete`` is uniform over the whole numbers below ``num_timesteps``."""
    logit_mean: float = 0.0
    logit_std: PositiveFloat = 1.0
    num_timesteps: PositiveInt = 1000
    """The model's timestep of pure noise; 0 is data."""
    shift_by_size: bool = True
    """Move times towards noise for larger and longer clips, in training and sampling."""
    base_size_px: PositiveInt = 512
    """Side of the square image whose times are not moved."""
    shift_scale: PositiveFloat = 1.0
    reference_times: bool = False
    """Count latent frames as Open-Sora 1.2 does, wrong for some lengths (`reference_times`)."""
    nan_without_frames: bool = False
    """The loss of a sample whose frames are all conditions: nan as in Open-Sora 1.2, else 0."""


class SamplerConfig(Config):
    """Euler sampling with classifier-free guidance (Ho and Salimans 2022)."""

    num_steps: PositiveInt = 30
    guidance: float = Field(default=7.0, ge=0)
    discrete_times: bool = False
    """Round the model's times, before their shift by size, to whole numbers."""
