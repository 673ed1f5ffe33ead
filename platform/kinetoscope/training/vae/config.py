"""Configs of the steps that train the VAE."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    PositiveFloat,
    model_validator,
)

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.data.plan.config import ClipPlanConfig
from kinetoscope.models.vae.adversarial.config import (
    AdversarialLossConfig,
    DiscriminatorConfig,
    PatchDiscriminatorConfig,
)
from kinetoscope.models.vae.config import SpatialVAEConfig, VAELossConfig, VideoVAEConfig
from kinetoscope.training.loop.config import TrainLoopConfig


class SpatialVAEStage(Config):
    """How the spatial VAE is trained, on single frames of the clips."""

    loss: VAELossConfig = VAELossConfig()
    plan: ClipPlanConfig
    """One frame per item: its ``num_frames`` must be 1."""
    loop: TrainLoopConfig

    @model_validator(mode="after")
    def _single_frames(self) -> Self:
        if self.plan.num_frames != 1:
            raise ValueError(
                f"plan.num_frames={self.plan.num_frames}: the spatial VAE trains on 1 frame an item"
            )
        return self


class TrainSpatialVAEConfig(SpatialVAEStage):
    """The piece of ``train_spatial_vae``."""

    model: SpatialVAEConfig = SpatialVAEConfig()


class AdversarialConfig(AdversarialLossConfig):
    """A discriminator that a stage of the VAE plays against."""

    discriminator: DiscriminatorConfig = PatchDiscriminatorConfig()
    lr: PositiveFloat | None = None
    """Learning rate of the discriminator, under the stage's schedule. None: the VAE's."""
    weights: Annotated[str | None, Effect.FILES] = None
    """File with weights to start from; 2D weights of the same names are inflated for a 3D one."""


class VAEStage(Config):
    """How one stage of the video VAE is trained."""

    objective: Literal["spatial_latents", "pixels"]
    """What is reconstructed: the spatial VAE's latents (never trained as targets), or pixels."""
    identity_loss: bool = False
    """Keep the latent of an image equal to the spatial VAE's, so that images stay in place."""
    freeze_spatial: bool = True
    loss: VAELossConfig = VAELossConfig()
    adversarial: AdversarialConfig | None = None
    """Train against a discriminator of the pixels, which starts anew with the stage. None: not."""
    plan: ClipPlanConfig
    loop: TrainLoopConfig

    @model_validator(mode="after")
    def _discriminator_can_judge(self) -> Self:
        if self.adversarial is None:
            return self
        if self.objective != "pixels":
            raise ValueError(
                f"adversarial needs objective='pixels', not {self.objective!r}: discriminators "
                "judge pictures"
            )
        shortest = self.plan.num_frames if self.plan.lengths == "fixed" else 1
        size = (shortest, self.plan.height, self.plan.width)
        least = self.adversarial.discriminator.min_size
        if any(given < needed for given, needed in zip(size, least, strict=True)):
            raise ValueError(
                f"adversarial.discriminator ({self.adversarial.discriminator.kind}) needs clips of "
                f"{least} frames, rows and columns at least; the plan's may have {size}"
            )
        return self

    @model_validator(mode="after")
    def _objective_can_train(self) -> Self:
        if self.identity_loss and self.objective == "pixels":
            raise ValueError("identity_loss=True belongs to objective='spatial_latents'")
        if self.objective == "spatial_latents" and self.loss.perceptual_weight:
            raise ValueError(
                f"loss.perceptual_weight={self.loss.perceptual_weight} needs objective='pixels': "
                "latents are no pictures"
            )
        return self


class TrainVAEConfig(VAEStage):
    """The piece of ``train_vae_N``."""

    model: VideoVAEConfig = VideoVAEConfig()
    spatial_weights: Annotated[str | None, Effect.FILES] = None
    """File or folder with the weights of a spatial VAE (diffusers' names, SDXL's old ones too) or
    of a whole video VAE, where no step trains them."""
