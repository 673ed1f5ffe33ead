"""Configs of the models. Defaults are Open-Sora 1.2's (``hpcaitech/Open-Sora`` v1.2.0)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kinetoscope.core.config_model import Config


class SpatialVAEConfig(Config):
    """A frame VAE with the layout of diffusers' ``AutoencoderKL`` (Rombach et al. 2022)."""

    block_widths: tuple[PositiveInt, ...] = (128, 256, 512, 512)
    """Channels of each resolution level; every level but the last halves height and width."""
    layers_per_block: PositiveInt = 2
    norm_groups: PositiveInt = 32
    latent_channels: PositiveInt = 4
    scaling_factor: float = 0.18215
    """Latents are multiplied by it (Open-Sora's value; SDXL's own would be 0.13025)."""

    @property
    def stride(self) -> int:
        """Pixels per latent position along height and width."""
        return int(2 ** (len(self.block_widths) - 1))

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> Self:
        bad = [width for width in self.block_widths if width % self.norm_groups]
        if bad:
            raise ValueError(f"norm_groups={self.norm_groups} must divide block_widths, not {bad}")
        return self


class TemporalVAEConfig(Config):
    """A causal 3D VAE over the frame VAE's latents (after MAGVIT-v2, Yu et al. 2023)."""

    latent_channels: PositiveInt = 4
    frame_channels: PositiveInt | None = None
    """Channels of the frame latents that it encodes; None: ``latent_channels``."""
    hidden_channels: PositiveInt | None = None
    """Channels between the quant convolutions and the rest; None: ``latent_channels``."""
    base_width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    num_res_blocks: PositiveInt = 4
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    """Whether stage i (all but the last) is followed by a halving of the frame rate."""
    norm_groups: PositiveInt = 32
    activation: Literal["silu", "relu"] = "silu"

    @property
    def stride(self) -> int:
        """Frames per latent frame."""
        return int(2 ** sum(self.temporal_downsample))

    @property
    def in_channels(self) -> int:
        """Channels of what is encoded and of what decoding gives."""
        return self.frame_channels or self.latent_channels

    @property
    def inner_channels(self) -> int:
        """Channels that the encoder emits (for the mean) and the decoder takes."""
        return self.hidden_channels or self.latent_channels

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if len(self.temporal_downsample) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_downsample has {len(self.temporal_downsample)} entries, multipliers "
                f"{len(self.multipliers)}: one entry per stage but the last is needed"
            )
        return self

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> Self:
        widths = {self.base_width * factor for factor in (1, *self.multipliers)}
        bad = sorted(width for width in widths if width % self.norm_groups)
        if bad:
            raise ValueError(
                f"norm_groups={self.norm_groups} must divide base_width * multipliers, not {bad}"
            )
        return self


class VideoVAEConfig(Config):
    """The frame VAE and the temporal VAE as one model, with the normalisation of its latents."""

    spatial: SpatialVAEConfig = SpatialVAEConfig()
    temporal: TemporalVAEConfig = TemporalVAEConfig()
    chunk_frames: PositiveInt | None = 17
    """Frames that the temporal VAE sees at once; longer clips are cut into such pieces. None: any
    clip is one piece, at a cost in memory."""
    spatial_micro_batch: PositiveInt | None = 4
    """Frames that the frame VAE encodes or decodes at once (bounds memory). None: all."""
    shift: tuple[float, ...] = (-0.10, 0.34, 0.27, 0.98)
    scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06)
    """Latents leave as ``(z - shift) / scale``, per channel."""

    @model_validator(mode="after")
    def _channels_agree(self) -> Self:
        frame_channels = {
            "spatial.latent_channels": self.spatial.latent_channels,
            "temporal.in_channels": self.temporal.in_channels,
        }
        channels = {
            "temporal.latent_channels": self.temporal.latent_channels,
            "len(shift)": len(self.shift),
            "len(scale)": len(self.scale),
        }
        for numbers in (frame_channels, channels):
            if len(set(numbers.values())) != 1:
                raise ValueError(f"the numbers of latent channels must agree: {numbers}")
        return self


PerceptualBackbone = Literal["vgg", "alex", "squeeze"]


class VAELossConfig(Config):
    """Weights of the VAE's losses; the defaults are Open-Sora 1.2's pixel loss."""

    l1_weight: float = Field(default=1.0, ge=0)
    mse_weight: float = Field(default=0.0, ge=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    perceptual_weight: float = Field(default=0.1, ge=0)
    """Weight of LPIPS; above 0 it needs ``perceptual_weights_path``."""
    perceptual_backbone: PerceptualBackbone = "vgg"
    perceptual_weights_path: str | None = None
    """torchvision's ImageNet weights of the backbone, a local file; nothing is downloaded."""
    reduction: Literal["mean", "sum"] = "sum"
    """``sum``: over a frame's elements (reconstruction) and a clip's latents (KL), as the
    reference; ``mean``: averages over elements, independent of the size."""
    logvar_init: float = 0.0
    """Logarithm of the variance of a reconstructed element: terms of the reconstruction are divided
    by the variance, and every element adds the logarithm."""
    learn_logvar: bool = False
    """Whether that number is trained. The reference means to and never does."""
    detach_target: bool = True
    """False: gradient flows into frame latents that are a target, as in the reference, which
    rewards a frame VAE for shrinking them."""

    @model_validator(mode="after")
    def _reconstructs(self) -> Self:
        if self.l1_weight == 0 and self.mse_weight == 0:
            raise ValueError("l1_weight and mse_weight are both 0: one must be positive")
        return self


AdversarialKind = Literal["hinge", "vanilla", "non-saturating"]


class AdversarialLossConfig(Config):
    """What generator and discriminator play for; the defaults are Open-Sora 1.2's."""

    discriminator_loss: AdversarialKind = "hinge"
    generator_loss: AdversarialKind = "hinge"
    discriminator_factor: float = Field(default=1.0, ge=0)
    """Weight of both players' losses."""
    generator_factor: float = Field(default=0.5, ge=0)
    """Further weight of the generator's."""
    adaptive: bool = True
    """Balance the generator's loss with the reconstruction by their gradients at the last layer."""
    start_step: NonNegativeInt = 0
    """First optimizer step (from 0) at which the game is played."""
    lecam_weight: float = Field(default=0.0, ge=0)
    """Weight of the discriminator's LeCam regularisation."""
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    """Share of the averaged logits that each batch keeps."""
    gradient_penalty_weight: float = Field(default=0.0, ge=0)
    """Weight of the penalty on the discriminator's gradient at real pixels."""


class PatchDiscriminatorConfig(Config):
    """A PatchGAN discriminator: a verdict for every patch, of frames or of whole clips."""

    kind: Literal["patch2d", "patch3d"] = "patch2d"
    in_channels: PositiveInt = 3
    base_width: PositiveInt = 64
    num_layers: PositiveInt = 3
    """Halvings of height and width."""

    @property
    def min_size(self) -> tuple[int, int, int]:
        """Fewest frames, rows and columns that give a verdict."""
        side = 3 * 2**self.num_layers
        return (2 * (self.num_layers + 2) if self.kind == "patch3d" else 1, side, side)


class StyleDiscriminatorConfig(Config):
    """A residual, blur-pooled 3D discriminator with one verdict per clip of any size."""

    kind: Literal["style3d"] = "style3d"
    in_channels: PositiveInt = 3
    base_width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = Field(default=(2, 4, 4, 4, 4), min_length=1)
    """Width of each block, which halves frames, height and width, over ``base_width``."""
    norm_groups: PositiveInt = 32

    @property
    def min_size(self) -> tuple[int, int, int]:
        """Fewest frames, rows and columns that give a verdict."""
        return (1, 1, 1)

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> Self:
        if self.base_width % self.norm_groups:
            raise ValueError(
                f"norm_groups={self.norm_groups} must divide base_width={self.base_width}"
            )
        return self


DiscriminatorConfig = Annotated[
    PatchDiscriminatorConfig | StyleDiscriminatorConfig, Field(discriminator="kind")
]


class STDiTConfig(Config):
    """Spatial-temporal diffusion transformer (STDiT3); the defaults are XL/2."""

    depth: PositiveInt = 28
    """Pairs of one spatial and one temporal block."""
    width: PositiveInt = 1152
    num_heads: PositiveInt = 16
    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 2)
    in_channels: PositiveInt = 4
    mlp_ratio: float = 4.0
    predict_sigma: bool = True
    """Twice the output channels; the second half is never trained (kept for the weights)."""
    qk_norm: bool = True
    text_width: PositiveInt = 4096
    max_text_tokens: PositiveInt = 300
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of training samples whose caption is replaced by the null text (for guidance)."""
    input_sq_size: PositiveInt = 512
    """Side in pixels at which positions have their natural scale."""
    temporal_position: Literal["rope", "rope+sincos"] = "rope"
    """STDiT3 has rotary embeddings alone; small models also want fixed sin-cos frame positions."""
    final_layer_compat: bool = True
    """Modulate condition frames twice in the final layer, as the released weights were trained."""
    freeze_text_projection: bool = False
    skip_text_embedder: bool = False
    """Text comes projected already (cached features); the projection's weights rest unused."""
    trainable: Literal["all", "temporal"] = "all"
    """``temporal`` freezes everything but the temporal blocks (``only_train_temporal``)."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What backward computes again: nothing; all but the outputs of linear layers and attention;
    everything but the inputs of the blocks."""
    rounding: Literal["exact", "bfloat16"] = "exact"
    """``bfloat16`` rounds times, sizes, frame rates and the frequencies of positions as the
    reference's bf16 runs do, with which the released weights were trained (docs/numerics.md)."""

    @property
    def out_channels(self) -> int:
        """Channels that the model emits."""
        return self.in_channels * (2 if self.predict_sigma else 1)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.num_heads or self.width // self.num_heads % 2:
            raise ValueError(
                f"width={self.width} over num_heads={self.num_heads} must be an even whole number"
            )
        if self.width % 4:
            raise ValueError(f"width={self.width} must be a multiple of 4 (2D sin-cos positions)")
        return self


STDIT_XL_2 = STDiTConfig()
"""The released size: 1,207,643,972 parameters."""
STDIT_3B_2 = STDiTConfig(width=1872, num_heads=26)
"""3,182,211,572 parameters; never released."""


class SeededTableConfig(Config):
    """A frozen table of seeded word vectors: any word has one, nothing is learned or loaded."""

    kind: Literal["seeded_table"] = "seeded_table"
    width: PositiveInt = 64
    max_tokens: PositiveInt = 16
    seed: int = 0


class T5Config(Config):
    """A T5 encoder (Raffel et al. 2020) read from a local folder in transformers' layout."""

    kind: Literal["t5"] = "t5"
    path: str = "DeepFloyd/t5-v1_1-xxl"
    """Folder with config, tokenizer and safetensors weights."""
    width: PositiveInt = 4096
    max_tokens: PositiveInt = 300


TextEncoderConfig = Annotated[SeededTableConfig | T5Config, Field(discriminator="kind")]
