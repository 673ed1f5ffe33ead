"""The temporal VAE: shortens videos of frame latents, ``B Z T h w`` <-> ``B Z t h w``.

Layout and parameter names are Open-Sora 1.2's ``VAE_Temporal_SD`` (after MAGVIT-v2's encoder and
decoder, https://arxiv.org/abs/2310.05737). Convolutions are causal, yet the network is not: its
group norms pool over time, so a piece must be encoded and decoded at the same length.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.config import Size
from kinetoscope.models.conv.causal_conv import CausalConv3d
from kinetoscope.models.conv.fused_conv import add_residual
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import TemporalVAEConfig
from kinetoscope.models.vae.inputs import check_latents


class TemporalVAE(nn.Module):
    """A 3D convolutional VAE that divides the number of frames by ``config.stride``.

    Activations are kept in channels-last order, as in the spatial VAE.
    """

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.config = config
        z, inner = config.latent_channels, config.inner_channels
        self.encoder = _Encoder(config)
        self.quant_conv = CausalConv3d(2 * inner, 2 * z, 1)
        self.post_quant_conv = CausalConv3d(z, inner, 1)
        self.decoder = _Decoder(config)

    def latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames ``num_frames`` frames become: the quotient, rounded up."""
        return -(-num_frames // self.config.stride)

    def latent_size(self, size: Size) -> Size:
        """Return the latent ``(t, h, w)`` of ``(T, h, w)``; what is None stays None."""
        num_frames, height, width = size
        return None if num_frames is None else self.latent_frames(num_frames), height, width

    def moments(self, x_BZThw: Tensor) -> Tensor:
        """Return ``B 2Z t h w`` of any number of frames: means, then log-variances as they come.

        Zero frames go in front to reach a multiple of the stride, as in the reference.

        Raises:
            ValueError: these are not such latents, or there are none.
        """
        check_latents(x_BZThw, "B Z T h w", channels=self.config.in_channels)
        front = -x_BZThw.shape[2] % self.config.stride
        padded = F.pad(x_BZThw, (0, 0, 0, 0, front, 0)) if front else x_BZThw
        return cast(Tensor, self.quant_conv(self.encoder(padded)))

    def encode(self, x_BZThw: Tensor) -> Posterior:
        """Return the posterior ``B Z t h w`` of any number of frames."""
        return Posterior.from_moments(self.moments(x_BZThw))

    def decode(self, z_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return ``B Z T h w`` with ``T = num_frames``.

        Raises:
            ValueError: these are not such latents, or those of another number of frames.
        """
        check_latents(z_BZthw, "B Z t h w", channels=self.config.latent_channels)
        if z_BZthw.shape[2] != self.latent_frames(num_frames):
            raise ValueError(
                f"{num_frames} frames have {self.latent_frames(num_frames)} latent frames, "
                f"got {z_BZthw.shape[2]}"
            )
        x = cast(Tensor, self.decoder(self.post_quant_conv(z_BZthw)))
        return x[:, :, -num_frames % self.config.stride :]


class _Encoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = _widths(config)
        self.activation = config.activation
        self.conv_in = CausalConv3d(config.in_channels, config.base_width, 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(before, width, config)
            for before, width in pairwise((config.base_width, *widths))
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, 3, stride_t=2) if halve else nn.Identity()
            for width, halve in zip(widths[:-1], config.temporal_downsample, strict=True)
        )
        self.res_blocks = _res_blocks(widths[-1], widths[-1], config)
        self.norm1 = nn.GroupNorm(config.norm_groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * config.inner_channels, 1)

    def forward(self, x_BZThw: Tensor) -> Tensor:
        """Return moments ``B 2Z t h w``."""
        x = self.conv_in(x_BZThw)
        for stage, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if stage < len(self.conv_blocks):
                x = self.conv_blocks[stage](x)
        x = self.res_blocks(x)
        return self.conv2.after_norm(x, self.norm1, self.activation)


class _Decoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = _widths(config)
        self.activation = config.activation
        self.temporal_upsample = config.temporal_downsample
        self.conv1 = CausalConv3d(config.inner_channels, widths[-1], 3)
        self.res_blocks = _res_blocks(widths[-1], widths[-1], config)
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(before, width, config) for width, before in pairwise((*widths, widths[-1]))
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width, 3) if double else nn.Identity()
            for width, double in zip(widths[1:], config.temporal_downsample, strict=True)
        )
        self.norm1 = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], config.in_channels, 3)

    def forward(self, z_BZthw: Tensor) -> Tensor:
        """Return ``B Z T h w`` with ``T = t * stride``."""
        x = self.res_blocks(self.conv1(z_BZthw))
        for stage in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[stage](x)
            if stage > 0 and self.temporal_upsample[stage - 1]:
                x = self.conv_blocks[stage - 1](x)
                # In channels-last order, so that the one copy that is needed keeps it.
                x = rearrange(x.movedim(1, -1), "B t h w (D s) -> B (t s) h w D", s=2)
                x = x.movedim(-1, 1)
        return self.conv_out.after_norm(x, self.norm1, self.activation)


class _ResBlock(nn.Module):
    def __init__(self, before: int, width: int, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.norm1 = nn.GroupNorm(config.norm_groups, before)
        self.conv1 = CausalConv3d(before, width, 3, bias=False)
        self.norm2 = nn.GroupNorm(config.norm_groups, width)
        self.conv2 = CausalConv3d(width, width, 3, bias=False)
        self.conv3 = CausalConv3d(before, width, 1, bias=False) if before != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1.after_norm(x, self.norm1, self.activation)
        h = self.conv2.after_norm(h, self.norm2, self.activation)
        return add_residual(h, x if self.conv3 is None else self.conv3(x))


def _res_blocks(before: int, width: int, config: TemporalVAEConfig) -> nn.Sequential:
    sizes = [before] + [width] * (config.num_res_blocks - 1)
    return nn.Sequential(*(_ResBlock(size, width, config) for size in sizes))


def _widths(config: TemporalVAEConfig) -> list[int]:
    return [config.base_width * factor for factor in config.multipliers]
