"""Configs of the steps that encode latents and train the diffusion transformer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from kinetoscope.core.config_model import Config
from kinetoscope.data.plan.config import BucketsConfig
from kinetoscope.diffusion.config import FrameMaskRatios, RectifiedFlowConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.text.config import SeededTableConfig, TextEncoderConfig
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.training.loop.config import TrainLoopConfig


class LatentCacheConfig(Config):
    """How the latent cache is made."""

    num_draws: PositiveInt = 1
    """Epochs of each plan to encode; training cycles through them."""
    normalization: Literal["measured", "fixed"] = "fixed"
    """Latents' shift and scale: measured over the training items, or the VAE's own."""
    items_per_shard: PositiveInt = 256
    dtype: Literal["fp32", "bf16"] = "fp32"
    cache_mib: NonNegativeInt = 512


class CachedPlan(Config):
    """The plan of a DiT stage that reads the latent cache."""

    buckets: BucketsConfig
    micro_batches_per_step: PositiveInt = 1
    patch_size: tuple[PositiveInt, PositiveInt] = (2, 2)
    """Rows and columns of latents in a patch of the model: sizes are cut to whole patches."""


class EncodeLatentsConfig(LatentCacheConfig):
    """The piece of ``encode_latents``."""

    model: VideoVAEConfig = VideoVAEConfig()
    text_encoder: TextEncoderConfig = SeededTableConfig()
    plans: tuple[CachedPlan, ...] = ()
    """One per DiT stage that will read the cache; without any, just the normalisation."""

    @model_validator(mode="after")
    def _measures_something(self) -> Self:
        if self.normalization == "measured" and not self.plans:
            raise ValueError(
                "normalization='measured' needs a DiT stage with use_cache=true to measure on; "
                "use normalization='fixed'"
            )
        return self


class DiTStage(Config):
    """How one stage of the diffusion transformer is trained."""

    plan: BucketsConfig
    use_cache: bool = True
    """Train on the latent cache; else encode the clips of every batch."""
    frame_masks: FrameMaskRatios = Field(default_factory=dict)
    """Share of the samples that each frame mask conditions on frames; the rest has none."""
    sequence_parallel: PositiveInt = 1
    """Ranks that share the patches of a sample (docs/sequence-parallelism.md). The number of
    ranks must be a multiple, and the quotient must divide ``loop.micro_batches_per_step``."""
    loop: TrainLoopConfig
    init_weights: str | None = None
    """File or folder with weights to start the first stage from (safetensors, whole or sharded, or
    a torch file)."""
    init_format: Literal["auto", "stdit", "pixart"] = "auto"
    """Layout of ``init_weights``: STDiT's, or PixArt-Sigma's, which start the spatial half."""

    def plan_for(self, model: STDiTConfig) -> CachedPlan:
        """Return what the latent cache has to know of the stage that trains this model."""
        return CachedPlan(
            buckets=self.plan,
            micro_batches_per_step=self.loop.micro_batches_per_step,
            patch_size=model.patch_size[1:],
        )


class TrainDiTConfig(DiTStage):
    """The piece of ``train_dit_N``."""

    model: STDiTConfig = STDiTConfig()
    flow: RectifiedFlowConfig = RectifiedFlowConfig()
    vae: VideoVAEConfig = VideoVAEConfig()
    text_encoder: TextEncoderConfig = SeededTableConfig()
    num_draws: PositiveInt = 1
    """Epochs that the latent cache holds."""

    @property
    def cached_plan(self) -> CachedPlan:
        """What the latent cache has to know of the stage."""
        return self.plan_for(self.model)

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        if self.text_encoder.width != self.model.text_width:
            raise ValueError(
                f"text_encoder.width={self.text_encoder.width} must equal "
                f"model.text_width={self.model.text_width}"
            )
        if self.vae.temporal.latent_channels != self.model.in_channels:
            raise ValueError(
                f"model.in_channels={self.model.in_channels} must equal the VAE's "
                f"latent_channels={self.vae.temporal.latent_channels}"
            )
        if self.frame_masks and self.model.patch_size[0] != 1:
            raise ValueError(
                f"frame_masks need a model that sees single frames: model.patch_size="
                f"{self.model.patch_size} must start with 1"
            )
        return self
