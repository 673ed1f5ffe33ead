"""Configs of the video VAE and of its losses; defaults are Open-Sora 1.2's (v1.2.0)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.models.config import VideoAutoencoderConfig


class SpatialVAEConfig(Config):
    """A spatial VAE with the layout of diffusers' ``AutoencoderKL`` (Rombach et al. 2022)."""

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
    """A causal 3D VAE over the spatial VAE's latents (after MAGVIT-v2, Yu et al. 2023)."""

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


class VideoVAEConfig(VideoAutoencoderConfig):
    """The spatial VAE and the temporal VAE as one model, with the normalisation of its latents."""

    kind: Literal["vae"] = "vae"
    spatial: SpatialVAEConfig = SpatialVAEConfig()
    temporal: TemporalVAEConfig = TemporalVAEConfig()
    chunk_frames: PositiveInt | None = 17
    """Frames that the temporal VAE sees at once; longer clips are cut into such pieces. None: any
    clip is one piece, at a cost in memory."""
    spatial_micro_batch: PositiveInt | None = 4
    """Frames that the spatial VAE encodes or decodes at once (bounds memory). None: all."""
    shift: tuple[float, ...] = (-0.10, 0.34, 0.27, 0.98)
    scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06)
    """Latents leave as ``(z - shift) / scale``, per channel."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.temporal.latent_channels

    @property
    def pixel_multiple(self) -> tuple[int, int]:
        """Pixels per latent along height and width."""
        return self.spatial.stride, self.spatial.stride

    @property
    def frames_per_latent(self) -> int:
        """Frames per latent frame."""
        return self.temporal.stride

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


MODEL_CONFIG = VideoVAEConfig

PerceptualBackbone = Literal["vgg", "alex", "squeeze"]


class VAELossConfig(Config):
    """Weights of the VAE's losses; the defaults are Open-Sora 1.2's pixel loss."""

    l1_weight: float = Field(default=1.0, ge=0)
    mse_weight: float = Field(default=0.0, ge=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    perceptual_weight: float = Field(default=0.1, ge=0)
    """Weight of LPIPS; above 0 it needs ``perceptual_weights_path``."""
    perceptual_backbone: PerceptualBackbone = "vgg"
    perceptual_weights_path: Annotated[str | None, Effect.FILES] = None
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
    rewards a spatial VAE for shrinking them."""

    @model_validator(mode="after")
    def _reconstructs(self) -> Self:
        if self.l1_weight == 0 and self.mse_weight == 0:
            raise ValueError("l1_weight and mse_weight are both 0: one must be positive")
        return self
