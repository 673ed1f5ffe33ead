"""Configs of the steps that encode latents and train the diffusion transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.data.plan.config import BucketsConfig
from kinetoscope.diffusion.config import FrameMaskRatios, RectifiedFlowConfig
from kinetoscope.models.agreement import check_models_agree
from kinetoscope.models.choice import (
    AnyTransformer,
    AnyVideoAutoencoder,
    default_transformer,
    default_video_autoencoder,
)
from kinetoscope.models.config import (
    PrecisionSetting,
    TransformerConfig,
    VideoAutoencoderConfig,
)
from kinetoscope.models.text.config import SeededTableConfig, TextEncoderConfig
from kinetoscope.training.loop.config import TrainLoopConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.data.plan.buckets import Bucket


class LatentCacheConfig(Config):
    """How the latent cache is made."""

    num_draws: PositiveInt = 1
    """Epochs of each plan to encode; training cycles through them."""
    normalization: Literal["measured", "fixed"] = "fixed"
    """Latents' shift and scale: measured over the training items, or the VAE's own."""
    items_per_shard: PositiveInt = 256
    dtype: PrecisionSetting = "auto"
    """Precision in which clips and texts are encoded; what is stored is fp32."""
    cache_mib: Annotated[NonNegativeInt, Effect.NONE] = 512


class CachedPlan(Config):
    """The plan of a DiT stage that reads the latent cache."""

    buckets: BucketsConfig
    micro_batches_per_step: PositiveInt = 1
    pixel_multiple: tuple[PositiveInt, PositiveInt] = (16, 16)
    """Pixels of a patch of the model's latents: heights and widths are cut to whole patches."""
    cost_ranks: tuple[NonNegativeInt, ...]
    """How the batches of each bucket compare in cost, 0 the cheapest: what the order of an epoch
    depends on. The costs themselves are the model's; a larger model leaves most orders, and so the
    cache, as they are."""

    def cost(self, bucket: Bucket, num_samples: int) -> float:
        """Return the rank of a bucket's batches."""
        del num_samples  # a bucket's batches have one size
        for config, rank in zip(self.buckets.buckets, self.cost_ranks, strict=True):
            if (config.resolution_name, config.num_frames) == (
                bucket.resolution,
                bucket.num_frames,
            ):
                return float(rank)
        raise ValueError(f"{bucket} is of no bucket of the plan")

    @model_validator(mode="after")
    def _one_rank_per_bucket(self) -> Self:
        if len(self.cost_ranks) != len(self.buckets.buckets):
            raise ValueError(
                f"cost_ranks={self.cost_ranks} must have one rank for each of the "
                f"{len(self.buckets.buckets)} buckets"
            )
        return self


class EncodeLatentsConfig(LatentCacheConfig):
    """The piece of ``encode_latents``."""

    model: AnyVideoAutoencoder = Field(default_factory=default_video_autoencoder)
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
    sequence_parallel: Annotated[PositiveInt, Effect.NONE] = 1
    """Ranks that share the patches of a sample (docs/sequence-parallelism.md). The number of
    ranks must be a multiple, and the quotient must divide ``loop.micro_batches_per_step``."""
    loop: TrainLoopConfig
    init_weights: Annotated[str | None, Effect.FILES] = None
    """File or folder with weights to start the first stage from (safetensors, whole or sharded, or
    a torch file)."""
    init_format: str = "auto"
    """Layout of ``init_weights``, of those that the model's kind knows; ``auto`` looks at their
    names."""

    def misfits(self, model: TransformerConfig) -> Iterator[str]:
        """Say what the stage asks for that a model can't do."""
        if self.frame_masks and model.patch_size[0] != 1:
            yield (
                f"frame_masks need a model that sees single frames: its patch_size="
                f"{model.patch_size} must start with 1"
            )
        layouts = ("auto", *model.pretrained_layouts)
        if self.init_format not in layouts:
            yield (
                f"init_format={self.init_format!r} is none of {list(layouts)}, which models of the "
                f"kind {model.kind!r} know"
            )

    def plan_for(
        self, transformer: TransformerConfig, autoencoder: VideoAutoencoderConfig
    ) -> CachedPlan:
        """Return what the latent cache has to know of the stage that trains this model."""
        costs = [
            bucket.batch_size * transformer.flops(autoencoder.latent_size(bucket.nominal_size))
            for bucket in self.plan.buckets
        ]
        rising = sorted(set(costs))
        return CachedPlan(
            buckets=self.plan,
            micro_batches_per_step=self.loop.micro_batches_per_step,
            pixel_multiple=transformer.pixel_multiple(autoencoder),
            cost_ranks=tuple(rising.index(cost) for cost in costs),
        )


class TrainDiTConfig(DiTStage):
    """The piece of ``train_dit_N``."""

    model: AnyTransformer = Field(default_factory=default_transformer)
    flow: RectifiedFlowConfig = RectifiedFlowConfig()
    vae: AnyVideoAutoencoder = Field(default_factory=default_video_autoencoder)
    text_encoder: TextEncoderConfig = SeededTableConfig()
    num_draws: PositiveInt = 1
    """Epochs that the latent cache holds."""

    @property
    def cached_plan(self) -> CachedPlan:
        """What the latent cache has to know of the stage."""
        return self.plan_for(self.model, self.vae)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        check_models_agree(self.vae, self.model, self.text_encoder, names=("vae", "model"))
        found = list(self.misfits(self.model))
        if found:
            raise ValueError("; ".join(found))
        return self
