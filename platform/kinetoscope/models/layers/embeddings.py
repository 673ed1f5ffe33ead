"""How a transformer embeds patches, scalars and positions (Open-Sora 1.2)."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

_MAX_PERIOD = 10000.0
_SINUSOID_WIDTH = 256


class PatchEmbed(nn.Module):
    """Cut latents into patches and map each to a token.

    The weight has the layout of a ``Conv3d`` whose kernel equals its stride; it is applied as the
    matrix product that this is.
    """

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, width, kernel_size=patch_size, stride=patch_size)

    def grid(self, x_BZthw: Tensor) -> tuple[int, int, int]:
        """Return how many patches cover the latents along frames, rows and columns."""
        sizes = zip(x_BZthw.shape[2:], self.patch_size, strict=True)
        frames, rows, columns = (-(-size // patch) for size, patch in sizes)
        return frames, rows, columns

    def forward(self, x_BZthw: Tensor) -> Tensor:
        """Return tokens ``BtLD`` of the latents, zero-padded at their far ends to whole patches."""
        x = functional.pad(x_BZthw, self._padding(x_BZthw))
        p, q, r = self.patch_size
        patches = rearrange(x, "B Z (t p) (h q) (w r) -> B t (h w) (Z p q r)", p=p, q=q, r=r)
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)

    def _padding(self, x_BZthw: Tensor) -> list[int]:
        padding: list[int] = []
        for size, patch in zip(reversed(x_BZthw.shape[2:]), reversed(self.patch_size), strict=True):
            padding += [0, -size % patch]
        return padding


def unpatchify(
    patches_BtLF: Tensor, grid: tuple[int, int, int], patch_size: tuple[int, int, int]
) -> Tensor:
    """Put patches back together as ``BZthw``; the channel is a patch's fastest axis."""
    p, q, r = patch_size
    return rearrange(
        patches_BtLF,
        "B t (h w) (p q r Z) -> B Z (t p) (h q) (w r)",
        h=grid[1],
        w=grid[2],
        p=p,
        q=q,
        r=r,
    )


class ScalarEmbedder(nn.Module):
    """Embed one number per sample: 256 sinusoids, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(_SINUSOID_WIDTH, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, value_B: Tensor) -> Tensor:
        """Return ``BD``; the numbers may be of any size (times 0 to 1000, frames per second)."""
        angles = value_B.float()[:, None] * _frequencies(_SINUSOID_WIDTH // 2, value_B.device)
        sinusoids = torch.cat((angles.cos(), angles.sin()), dim=-1)
        embedded: Tensor = self.mlp(sinusoids.to(next(self.mlp.parameters()).dtype))
        return embedded


def spatial_positions(
    grid: tuple[int, int],
    width: int,
    *,
    scale: Tensor,
    device: torch.device,
    bf16_frequencies: bool = False,
) -> Tensor:
    """Return fixed 2D sin-cos positions ``LD`` of a grid of ``(rows, columns)`` patches.

    The first half of the channels is the column, the second the row, each [sin | cos]. Coordinates
    are stretched to a square of ``round(sqrt(L))`` and divided by ``scale``, so that every size
    covers about the same range.

    Args:
        grid: rows and columns of patches.
        width: a multiple of 4.
        scale: a scalar, the clip's side in pixels over the side at which positions are unscaled.
        device: of the result.
        bf16_frequencies: round the frequencies to bfloat16, as the reference's bf16 runs do.
    """
    rows, columns = grid
    base = round(math.sqrt(rows * columns))
    row = torch.arange(rows, device=device) / scale * (base / rows)
    column = torch.arange(columns, device=device) / scale * (base / columns)
    half = width // 2
    frequencies = _frequencies(half // 2, device)
    if bf16_frequencies:
        frequencies = frequencies.bfloat16().float()
    by_row = _sin_cos(row, frequencies)[:, None].expand(rows, columns, half)
    by_column = _sin_cos(column, frequencies)[None].expand(rows, columns, half)
    return torch.cat((by_column, by_row), dim=-1).flatten(0, 1)


def frame_positions(num_frames: int, width: int, *, device: torch.device) -> Tensor:
    """Return fixed sin-cos positions ``tD`` of latent frames."""
    position = torch.arange(num_frames, device=device).float()
    return _sin_cos(position, _frequencies(width // 2, device))


def _sin_cos(position: Tensor, frequencies: Tensor) -> Tensor:
    angles = position[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def _frequencies(count: int, device: torch.device) -> Tensor:
    exponents = torch.arange(count, device=device, dtype=torch.float32) / count
    return torch.exp(-math.log(_MAX_PERIOD) * exponents)
