"""Configs of the evaluation steps and of registration.

``VAEEvaluation``, ``DiTEvaluation`` and ``Registration`` are what a run config says; the steps' own
pieces add the models.
"""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.inference.config import ClipSize, GenerationConfig
from kinetoscope.models.choice import AnyVideoAutoencoder, default_video_autoencoder
from kinetoscope.models.config import PrecisionSetting

SSIM_WINDOW_PX = 11
"""Side of the window of structural similarity."""


VAE_SCORES = {"vae.psnr": (0.0, inf), "vae.ssim": (-1.0, 1.0), "vae.lpips": (0.0, inf)}
"""What ``evaluate_vae`` measures, and the range of each score; PSNR is in dB."""


class Gate(Config):
    """Bounds of a score that a model must keep."""

    metric: str
    """E.g. ``vae.psnr`` or ``adherence.all``."""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(f"gate on {self.metric!r} needs min or max")
        return self


class VAEEvaluation(Config):
    """How the reconstruction of held-out clips is judged."""

    num_clips: PositiveInt = 64
    """At most; fewer when fewer are held out."""
    size: ClipSize = ClipSize()
    gates: tuple[Gate, ...] = ()
    """A VAE that fails one ends the run."""
    lpips_weights: Annotated[str | None, Effect.FILES] = None
    """File with AlexNet's torchvision weights; without it LPIPS is not measured."""
    grid_clips: PositiveInt = 8
    """Clips shown in the comparison video."""

    @model_validator(mode="after")
    def _gates_can_be_checked(self) -> Self:
        for gate in self.gates:
            if gate.metric not in VAE_SCORES:
                raise ValueError(
                    f"gates: {gate.metric!r} is not measured by evaluate_vae; "
                    f"allowed: {', '.join(VAE_SCORES)}"
                )
            if gate.metric == "vae.lpips" and self.lpips_weights is None:
                raise ValueError(
                    "a gate on vae.lpips needs lpips_weights: LPIPS is not measured without"
                )
            low, high = VAE_SCORES[gate.metric]
            for bound in (gate.min, gate.max):
                if bound is not None and not low <= bound <= high:
                    raise ValueError(
                        f"gates: {gate.metric} lies between {low:g} and {high:g}, so a bound of "
                        f"{bound:g} makes no sense"
                    )
        return self

    @model_validator(mode="after")
    def _size_fits_ssim(self) -> Self:
        if min(self.size.height, self.size.width) < SSIM_WINDOW_PX:
            raise ValueError(
                f"size.height={self.size.height} and size.width={self.size.width} must be at least "
                f"{SSIM_WINDOW_PX}, the window of SSIM"
            )
        return self


class EvaluateVAEConfig(VAEEvaluation):
    """The piece of ``evaluate_vae``."""

    vae: AnyVideoAutoencoder = Field(default_factory=default_video_autoencoder)
    precision: PrecisionSetting = "auto"
    """That of `ModelsConfig`."""


class RFLossConfig(Config):
    """The rectified-flow loss over sizes, lengths and times."""

    sizes: tuple[ClipSize, ...] = (ClipSize(),)
    num_clips: PositiveInt = 32
    """Held-out clips per size, at most."""
    num_times: PositiveInt = 10
    """Interior points of ``linspace(0, 1, num_times + 2)``."""
    batch_size: PositiveInt = 8


class AdherenceConfig(Config):
    """How well generated clips show the shape, colour and motion of their prompt."""

    enabled: bool = True
    num_clips: PositiveInt = 120
    """Clips for combinations that were trained on."""
    num_untrained: int = Field(default=20, ge=0)
    """Clips from a model with its initial weights."""
    num_per_heldout: int = Field(default=4, ge=0)
    """Clips per combination that was never trained on."""


class DiTEvaluation(Config):
    """How the diffusion transformer is judged: loss grid, samples, adherence."""

    rf_loss: RFLossConfig = RFLossConfig()
    adherence: AdherenceConfig | None = None
    """None: not measured. Where the training captions are not those of synthetic clips, neither."""
    num_samples: PositiveInt = 4
    """Clips for held-out captions where adherence does not apply."""
    grid_clips: PositiveInt = 16
    """Clips shown in the video grid."""
    sample_height_px: PositiveInt = 256
    """Height to which ``sample.mp4`` is enlarged."""

    @property
    def measures_adherence(self) -> bool:
        """Whether adherence is asked for."""
        return self.adherence is not None and self.adherence.enabled


class EvaluateDiTConfig(DiTEvaluation, GenerationConfig):
    """The piece of ``evaluate_dit``."""


class ChampionMetric(Config):
    """A metric by which a candidate is compared with the champion."""

    metric: str
    direction: Literal["max", "min"] = "max"


class Registration(Config):
    """Under which name a model is registered, and when it becomes the champion."""

    model_name: str = Field(default="kinetoscope", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    gates: tuple[Gate, ...] = ()
    """A model that fails one is registered as candidate, never promoted."""
    champion: tuple[ChampionMetric, ...] = (ChampionMetric(metric="rf_loss.mean", direction="min"),)
    """The first one that both models have decides; equal scores leave the champion."""


class RegisterConfig(Registration, GenerationConfig):
    """The piece of ``register_model``."""
