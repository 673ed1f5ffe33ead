"""Discriminators of reconstructed clips: ``B C T H W`` pixels in, logits out (real is positive)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.vae.adversarial.config import (
    DiscriminatorConfig,
    PatchDiscriminatorConfig,
    StyleDiscriminatorConfig,
)

_LEAK = 0.2
_MAX_WIDTH_FACTOR = 8
_KERNEL_DIMS_2D = 4


def build_discriminator(config: DiscriminatorConfig) -> nn.Module:
    """Return the discriminator of this kind, with random weights."""
    if isinstance(config, StyleDiscriminatorConfig):
        return StyleDiscriminator(config)
    return PatchDiscriminator(config)


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017, https://arxiv.org/abs/1611.07004, appendix 6.1.2), 2D or 3D.

    Every convolution has kernel 4 and padding 1. Each of ``num_layers`` halves height and width;
    in 3D the first also halves the frames, and each later one costs a frame. State-dict names are
    pix2pix's ``main.<index>``, the same in 2D and 3D.
    """

    def __init__(self, config: PatchDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        in_3d = config.kind == "patch3d"
        norm = nn.BatchNorm3d if in_3d else nn.BatchNorm2d
        widths = [
            config.base_width * min(2**level, _MAX_WIDTH_FACTOR)
            for level in range(config.num_layers + 1)
        ]
        layers: list[nn.Module] = [
            _patch_conv(config.in_channels, widths[0], (2, 2, 2), in_3d=in_3d),
            nn.LeakyReLU(_LEAK),
        ]
        for level, (before, width) in enumerate(pairwise(widths), start=1):
            side = 1 if level == config.num_layers else 2
            layers += [
                _patch_conv(before, width, (1, side, side), in_3d=in_3d, bias=False),
                norm(width),
                nn.LeakyReLU(_LEAK),
            ]
        layers.append(_patch_conv(widths[-1], 1, (1, 1, 1), in_3d=in_3d))
        self.main = nn.Sequential(*layers)

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """Return the logits ``B 1 t h w`` of the patches; in 2D ``t`` is ``T``.

        Raises:
            ValueError: the clip is smaller than one patch needs.
        """
        size, least = video_BCTHW.shape[2:], self.config.min_size
        if any(given < needed for given, needed in zip(size, least, strict=True)):
            raise ValueError(
                f"a {self.config.kind} discriminator with num_layers={self.config.num_layers} "
                f"needs clips of {least} frames, rows and columns at least, got {tuple(size)}"
            )
        if self.config.kind == "patch3d":
            return cast(Tensor, self.main(video_BCTHW))
        logits: Tensor = self.main(rearrange(video_BCTHW, "B C T H W -> (B T) C H W"))
        return rearrange(logits, "(B T) C h w -> B C T h w", B=len(video_BCTHW))


class StyleDiscriminator(nn.Module):
    """A residual 3D discriminator with blur-pooling, one verdict per clip.

    After StyleGAN's (Karras et al. 2020, https://arxiv.org/abs/1912.04958), inflated to 3D with
    anti-aliased downsampling (Zhang 2019, https://arxiv.org/abs/1904.11486), as in MAGVIT (Yu et
    al. 2023, https://arxiv.org/abs/2212.05199, appendix A). Features are averaged over positions
    before the linear head, so that clips of any size and length fit.
    """

    def __init__(self, config: StyleDiscriminatorConfig) -> None:
        super().__init__()
        widths = [config.base_width * factor for factor in (1, *config.multipliers)]
        self.conv_in = nn.Conv3d(config.in_channels, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(
            *(
                _BlurResBlock(before, width, config.norm_groups)
                for before, width in pairwise(widths)
            )
        )
        self.conv_out = nn.Conv3d(widths[-1], widths[-1], 3, padding=1)
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[-1])
        self.hidden = nn.Linear(widths[-1], widths[-1])
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """Return the logits ``B 1``."""
        x = self.blocks(F.leaky_relu(self.conv_in(video_BCTHW), _LEAK))
        x = F.leaky_relu(self.norm_out(self.conv_out(x)), _LEAK)
        return cast(Tensor, self.head(F.leaky_relu(self.hidden(x.mean((2, 3, 4))), _LEAK)))


def inflated(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return 2D weights made to fit a 3D model of the same names; tensors that fit stay.

    A 2D kernel becomes the middle slice (index ``k // 2``) of a 3D one that is 0 elsewhere, so that
    the 3D model begins by judging the frames one by one.

    Args:
        weights: state dict, e.g. of a 2D PatchGAN.
        model: that will load them; names and other shapes are left for it to check.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return {name: _inflate(tensor, shapes.get(name)) for name, tensor in weights.items()}


def _inflate(tensor: Tensor, shape: torch.Size | None) -> Tensor:
    if shape is None or tensor.ndim != _KERNEL_DIMS_2D or tensor.shape != shape[:2] + shape[3:]:
        return tensor
    kernel = tensor.new_zeros(shape)
    kernel[:, :, shape[2] // 2] = tensor
    return kernel


def _patch_conv(
    before: int, width: int, stride: tuple[int, int, int], *, in_3d: bool, bias: bool = True
) -> nn.Module:
    if in_3d:
        return nn.Conv3d(before, width, 4, stride=stride, padding=1, bias=bias)
    return nn.Conv2d(before, width, 4, stride=stride[1:], padding=1, bias=bias)


class _BlurPool3d(nn.Module):
    """Halve frames, height and width (rounded up) after a binomial blur."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer(
            "kernel", torch.einsum("t,h,w->thw", line, line, line), persistent=False
        )

    def forward(self, x_BDthw: Tensor) -> Tensor:
        width = x_BDthw.shape[1]
        kernel = self.kernel.to(x_BDthw.dtype).expand(width, 1, 3, 3, 3)
        padded = F.pad(x_BDthw, (1,) * 6, mode="replicate")
        return F.conv3d(padded, kernel, stride=2, groups=width)


class _BlurResBlock(nn.Module):
    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.shortcut = nn.Conv3d(before, width, 1, bias=False)
        self.blur = _BlurPool3d()

    def forward(self, x_BDthw: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm1(self.conv1(x_BDthw)), _LEAK)
        x = F.leaky_relu(self.norm2(self.conv2(self.blur(x))), _LEAK)
        return cast(Tensor, (x + self.shortcut(self.blur(x_BDthw))) / math.sqrt(2))
