"""The VAEs in plain eager torch: what ours are measured against.

The maths, weights and calls of ours, a layer at a time: torch's default memory order, padding made,
norm, activation and (if ``spelled_out``) attention written out, all frames at once.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig


class EagerVideoVAE(nn.Module):
    """Takes the state dict of ``VideoVAE``; ``encode`` and ``decode`` give what its own do."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: VideoVAEConfig, *, spelled_out: bool = True) -> None:
        super().__init__()
        self.config = config
        self.spatial_vae = _Wrapped(EagerSpatialVAE(config.spatial))
        self.apply(lambda module: vars(module).update(spelled_out=spelled_out))
        self.temporal_vae = EagerTemporalVAE(config.temporal)
        for name, values in (("shift", config.shift), ("scale", config.scale)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1, 1))

    def encode(self, video: Tensor) -> Posterior:
        """Return the posterior of normalised latents, of the mode of the frame latents."""
        return self.encode_time(self.encode_frames(video)).normalized(self.shift, self.scale)

    def encode_time(self, latents: Tensor) -> Posterior:
        """Return the posterior, not normalised, of scaled frame latents."""
        pieces = latents.split(self.config.chunk_frames or latents.shape[2], dim=2)
        return Posterior.cat([self.temporal_vae.encode(piece) for piece in pieces], dim=2)

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Return pixels of normalised latents."""
        lengths, counts = zip(*self.config.pieces(num_frames), strict=True)
        parts = (z * self.scale + self.shift).split(counts, dim=2)
        frames = map(self.temporal_vae.decode, parts, lengths)
        return self.decode_frames(torch.cat(list(frames), 2))

    def encode_frames(self, video: Tensor) -> Tensor:
        """Return scaled frame latents."""
        frames = video.transpose(1, 2).flatten(0, 1).contiguous()
        latents = self.spatial_vae.module.encode(frames).mode() * self.config.spatial.scaling_factor
        return latents.unflatten(0, (video.shape[0], -1)).transpose(1, 2)

    def decode_frames(self, latents: Tensor) -> Tensor:
        """Return pixels of scaled frame latents."""
        frames = (latents / self.config.spatial.scaling_factor).transpose(1, 2).flatten(0, 1)
        pixels = self.spatial_vae.module.decode(frames.contiguous())
        return pixels.unflatten(0, (latents.shape[0], -1)).transpose(1, 2)


class _Wrapped(nn.Module):
    def __init__(self, module: EagerSpatialVAE) -> None:
        super().__init__()
        self.module: EagerSpatialVAE = module


class EagerSpatialVAE(nn.Module):
    """Takes the state dict of ``SpatialVAE``; ``encode`` and ``decode`` give what its own do."""

    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = _FrameEncoder(config), _FrameDecoder(config)
        z = config.latent_channels
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def encode(self, frames: Tensor) -> Posterior:
        """Return the posterior of frames."""
        return Posterior.from_moments(self.quant_conv(self.encoder(frames)))

    def decode(self, latents: Tensor) -> Tensor:
        """Return frames of latents that are not scaled."""
        return self.decoder(self.post_quant_conv(latents))


class EagerTemporalVAE(nn.Module):
    """Takes the state dict of ``TemporalVAE``; ``encode`` and ``decode`` give what its own do."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.encoder, self.decoder = _ClipEncoder(config), _ClipDecoder(config)
        self.quant_conv = _CausalConv(2 * config.inner_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = _CausalConv(config.latent_channels, config.inner_channels, 1)

    def encode(self, x: Tensor) -> Posterior:
        """Return the posterior of one piece."""
        x = functional.pad(x, (0, 0, 0, 0, -x.shape[2] % self.stride, 0))
        return Posterior.from_moments(self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Return the frame latents of one piece."""
        return self.decoder(self.post_quant_conv(z))[:, :, -num_frames % self.stride :]


class _FrameEncoder(nn.Module):
    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_widths, config.norm_groups
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            block = _Stage(before, width, config.layers_per_block, groups)
            if level < len(widths) - 1:
                block.downsamplers.append(_Downsample(width))
            self.down_blocks.append(block)
        self.mid_block = _Middle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(x))))


class _FrameDecoder(nn.Module):
    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_widths[::-1], config.norm_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            block = _Stage(before, width, config.layers_per_block + 1, groups)
            if level < len(widths) - 1:
                block.upsamplers.append(_Upsample(width))
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class _Stage(nn.Module):
    def __init__(self, before: int, width: int, depth: int, groups: int) -> None:
        super().__init__()
        inputs = [before] + [width] * (depth - 1)
        self.resnets = nn.Sequential(*(_FrameBlock(size, width, groups) for size in inputs))
        self.downsamplers, self.upsamplers = nn.Sequential(), nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.upsamplers(self.downsamplers(self.resnets(x)))


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.Sequential(_Attention(width, groups))
        self.resnets = nn.ModuleList(_FrameBlock(width, width, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions(self.resnets[0](x)))


class _FrameBlock(nn.Module):
    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=1e-6)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        return self.conv_shortcut(x) + self.conv2(functional.silu(self.norm2(h)))


class _Attention(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.spelled_out, self.group_norm = True, nn.GroupNorm(groups, width, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        if self.spelled_out:
            attended = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        else:
            attended = functional.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(attended).transpose(1, 2).reshape(x.shape)


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class _Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class _CausalConv(nn.Module):
    def __init__(self, before: int, width: int, kernel: int, stride: int = 1, bias: bool = True):
        super().__init__()
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - stride, 0)
        self.conv = nn.Conv3d(before, width, kernel, (stride, 1, 1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, self.padding))


class _ClipBlock(nn.Module):
    def __init__(self, before: int, width: int, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.activation = getattr(functional, config.activation)
        self.norm1 = nn.GroupNorm(config.norm_groups, before)
        self.conv1 = _CausalConv(before, width, 3, bias=False)
        self.norm2 = nn.GroupNorm(config.norm_groups, width)
        self.conv2 = _CausalConv(width, width, 3, bias=False)
        self.conv3 = nn.Identity() if before == width else _CausalConv(before, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x)))
        return self.conv3(x) + self.conv2(self.activation(self.norm2(h)))


def _clip_blocks(before: int, width: int, config: TemporalVAEConfig) -> nn.Sequential:
    inputs = [before] + [width] * (config.num_res_blocks - 1)
    return nn.Sequential(*(_ClipBlock(size, width, config) for size in inputs))


class _ClipEncoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.base_width * factor for factor in config.multipliers]
        self.activation = getattr(functional, config.activation)
        self.conv_in = _CausalConv(config.in_channels, config.base_width, 3, bias=False)
        self.block_res_blocks, self.conv_blocks = nn.ModuleList(), nn.ModuleList()
        for before, width in pairwise((config.base_width, *widths)):
            self.block_res_blocks.append(_clip_blocks(before, width, config))
        for width, halve in zip(widths[:-1], config.temporal_downsample, strict=True):
            layer = _CausalConv(width, width, 3, stride=2) if halve else nn.Identity()
            self.conv_blocks.append(layer)
        self.res_blocks = _clip_blocks(widths[-1], widths[-1], config)
        self.norm1 = nn.GroupNorm(config.norm_groups, widths[-1])
        self.conv2 = _CausalConv(widths[-1], 2 * config.inner_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for blocks, change in zip(self.block_res_blocks, [*self.conv_blocks, None], strict=True):
            x = blocks(x) if change is None else change(blocks(x))
        return self.conv2(self.activation(self.norm1(self.res_blocks(x))))


class _ClipDecoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.base_width * factor for factor in config.multipliers]
        self.activation = getattr(functional, config.activation)
        self.upsample = config.temporal_downsample
        self.conv1 = _CausalConv(config.inner_channels, widths[-1], 3)
        self.res_blocks = _clip_blocks(widths[-1], widths[-1], config)
        self.block_res_blocks, self.conv_blocks = nn.ModuleList(), nn.ModuleList()
        for width, before in pairwise((*widths, widths[-1])):
            self.block_res_blocks.append(_clip_blocks(before, width, config))
        for width, double in zip(widths[1:], config.temporal_downsample, strict=True):
            self.conv_blocks.append(_CausalConv(width, 2 * width, 3) if double else nn.Identity())
        self.norm1 = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = _CausalConv(widths[0], config.in_channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(z))
        for stage in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[stage](x)
            if stage > 0 and self.upsample[stage - 1]:
                x = self.conv_blocks[stage - 1](x)
                x = x.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2, 3)
        return self.conv_out(self.activation(self.norm1(x)))
