"""The spatial VAE: an autoencoder of single images, ``N C H W`` <-> ``N Z h w``.

The layout and the parameter names are those of diffusers' ``AutoencoderKL`` (Rombach et al. 2022,
https://arxiv.org/abs/2112.10752), so that SDXL's and Open-Sora's weights load as they are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.conv.conv_ops import FrameConv, UpsampleConv
from kinetoscope.models.conv.fused_conv import add_residual, conv, group_norm, norm_act_conv
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import SpatialVAEConfig
from kinetoscope.models.vae.inputs import check_latents, check_pixels

PIXEL_CHANNELS = 3
_NORM_EPS = 1e-6


class SpatialVAE(nn.Module):
    """A convolutional VAE of frames with one attention layer at the lowest resolution.

    Activations are kept in channels-last order, in which convolutions and group norms are fastest
    on CPU and GPU alike; the values do not depend on it. Weights have their usual order, in which
    they can be sharded, and are laid out where they are used.
    """

    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        self.config = config
        z = config.latent_channels
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def encode(self, frames_NCHW: Tensor) -> Posterior:
        """Return the posterior ``N Z h w`` of frames in [-1, 1], with ``h = H // stride``.

        The latents are as the network emits them: not multiplied by the scaling factor.

        Raises:
            ValueError: these are not such frames, or smaller than the stride.
        """
        check_pixels(frames_NCHW, "N C H W", channels=PIXEL_CHANNELS, stride=self.config.stride)
        frames = frames_NCHW.contiguous(memory_format=torch.channels_last)
        return Posterior.from_moments(self.quant_conv(self.encoder(frames)))

    def decode(self, latents_NZhw: Tensor) -> Tensor:
        """Return frames ``N C H W`` (about [-1, 1], not clamped) of unscaled latents.

        Raises:
            ValueError: these are not such latents, or there are none.
        """
        check_latents(latents_NZhw, "N Z h w", channels=self.config.latent_channels)
        latents = latents_NZhw.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.decoder(self.post_quant_conv(latents)))


class _Encoder(nn.Module):
    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_widths, config.norm_groups
        self.conv_in = nn.Conv2d(PIXEL_CHANNELS, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            last = level == len(widths) - 1
            block = _Stage(before, width, config.layers_per_block, groups)
            block.downsamplers = None if last else nn.ModuleList([_Downsample(width)])
            self.down_blocks.append(block)
        self.mid_block = _MidBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return moments ``N 2Z h w``."""
        x = self.conv_in(frames_NCHW)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return norm_act_conv(x, self.conv_norm_out, self.conv_out, FrameConv())


class _Decoder(nn.Module):
    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_widths[::-1], config.norm_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = _MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            last = level == len(widths) - 1
            block = _Stage(before, width, config.layers_per_block + 1, groups)
            block.upsamplers = None if last else nn.ModuleList([_Upsample(width)])
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], PIXEL_CHANNELS, 3, padding=1)

    def forward(self, latents_NZhw: Tensor) -> Tensor:
        """Return frames ``N C H W``."""
        x = self.mid_block(self.conv_in(latents_NZhw))
        for block in self.up_blocks:
            x = block(x)
        return norm_act_conv(x, self.conv_norm_out, self.conv_out, FrameConv())


class _Stage(nn.Module):
    """Residual blocks of one resolution, then the change to the next one, if any."""

    def __init__(self, before: int, width: int, num_blocks: int, groups: int) -> None:
        super().__init__()
        inputs = [before] + [width] * (num_blocks - 1)
        self.resnets = nn.ModuleList(_ResBlock(size, width, groups) for size in inputs)
        self.downsamplers: nn.ModuleList | None = None
        self.upsamplers: nn.ModuleList | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        for layer in self.downsamplers or self.upsamplers or ():
            x = layer(x)
        return x


class _MidBlock(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Attention(width, groups)])
        self.resnets = nn.ModuleList(_ResBlock(width, width, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        x = self.attentions[0](x)
        return cast(Tensor, self.resnets[1](x))


class _ResBlock(nn.Module):
    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=_NORM_EPS)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=_NORM_EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = norm_act_conv(x, self.norm1, self.conv1, FrameConv())
        h = norm_act_conv(h, self.norm2, self.conv2, FrameConv())
        return add_residual(h, x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    """Single-head self-attention over the positions of a frame."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=_NORM_EPS)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x_NDhw: Tensor) -> Tensor:
        # One head: N A=1 L D. In channels-last order this is a view.
        tokens = rearrange(group_norm(x_NDhw, self.group_norm), "N D h w -> N 1 (h w) D")
        out = F.scaled_dot_product_attention(
            self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        )
        h = x_NDhw.shape[2]
        update: Tensor = rearrange(self.to_out[0](out), "N 1 (h w) D -> N D h w", h=h)
        return add_residual(update, x_NDhw)


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return conv(x, self.conv, FrameConv(stride=2))


class _Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return conv(x, self.conv, UpsampleConv())
