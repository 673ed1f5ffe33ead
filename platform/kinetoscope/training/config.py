"""Configs of training: the loop, and one piece per training step of the pipeline."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kinetoscope.core.config_model import Config
from kinetoscope.data.plan.config import BucketsConfig, ClipPlanConfig
from kinetoscope.diffusion.config import FrameMaskRatios, RectifiedFlowConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.text.config import SeededTableConfig, TextEncoderConfig
from kinetoscope.models.vae.adversarial.config import (
    AdversarialLossConfig,
    DiscriminatorConfig,
    PatchDiscriminatorConfig,
)
from kinetoscope.models.vae.config import SpatialVAEConfig, VAELossConfig, VideoVAEConfig


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


class LRScheduleConfig(Config):
    """The learning rate as a pure function of the step."""

    kind: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up: step i (from 0) has (i + 1) / (warmup_steps + 1) of the rate."""
    final_ratio: float = Field(default=0.0, ge=0, le=1)
    """What cosine leaves of the rate after the last step."""


EngineName = Literal["torch_ddp", "colossalai_ddp"]


class TrainLoopConfig(Config):
    """What all training steps have in common."""

    engine: EngineName = "torch_ddp"
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
    checkpoint_every_steps: PositiveInt = 200
    keep_checkpoints: PositiveInt = 2
    log_every_steps: PositiveInt = 10
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of the forward pass; weights, optimizer and average are fp32 always."""
    prefetch_steps: PositiveInt = 2
    """Steps whose batches are loaded ahead of their use."""
    cache_mib: NonNegativeInt = 512
    """Decoded clips that a rank keeps in memory."""


class SpatialVAEStage(Config):
    """How the frame VAE is trained, on single frames of the clips."""

    loss: VAELossConfig = VAELossConfig()
    plan: ClipPlanConfig
    """One frame per item: its ``num_frames`` must be 1."""
    loop: TrainLoopConfig

    @model_validator(mode="after")
    def _single_frames(self) -> Self:
        if self.plan.num_frames != 1:
            raise ValueError(
                f"plan.num_frames={self.plan.num_frames}: the frame VAE trains on 1 frame an item"
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
    weights: str | None = None
    """File with weights to start from; 2D weights of the same names are inflated for a 3D one."""


class VAEStage(Config):
    """How one stage of the video VAE is trained."""

    objective: Literal["spatial_latents", "pixels"]
    """What is reconstructed: the frame VAE's latents (its targets are never trained), or pixels."""
    identity_loss: bool = False
    """Keep the latent of a single image equal to the frame VAE's, so that images stay in place."""
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
    spatial_weights: str | None = None
    """File or folder with the weights of a frame VAE (diffusers' names, SDXL's old ones too) or of
    a whole video VAE, where no step trains them."""


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
