"""Attention within the video (with rotary positions) and over the text."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from kinetoscope.models.dtypes import as_told
from kinetoscope.models.layers.packed_attention import attend_to_packed
from kinetoscope.models.layers.packed_text import PackedText
from kinetoscope.models.layers.sequence_parallel import TokenShare

_NORM_EPS = 1e-6


class RotaryEmbedding(nn.Module):
    """Rotary angles of frame positions (Su et al. 2021), theta 10000 over the whole head width.

    ``freqs`` is a frozen parameter because it is part of the released state dict.

    Args:
        head_width: even.
        bf16_angles: round frequencies and angles to bfloat16, as the reference's bf16 runs do.
    """

    def __init__(self, head_width: int, *, bf16_angles: bool = False) -> None:
        super().__init__()
        self.bf16_angles = bf16_angles
        self.freqs = nn.Parameter(torch.empty(head_width // 2), requires_grad=False)

    def reset_parameters(self) -> None:
        """Set the standard frequencies 10000^(-2i/K)."""
        with torch.no_grad():
            self.freqs.copy_(self._standard())

    def forward(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles, each (positions, K / 2)."""
        freqs = self._frequencies()
        positions = torch.arange(num_positions, device=freqs.device, dtype=freqs.dtype)
        angles = torch.outer(positions, freqs).float()
        return angles.cos(), angles.sin()

    def _frequencies(self) -> Tensor:
        if self.bf16_angles:
            return self.freqs.bfloat16()
        # Half-precision weights have lost the frequencies' lower bits.
        exact = torch.finfo(self.freqs.dtype).bits >= torch.finfo(torch.float32).bits
        return self.freqs if exact else self._standard()

    def _standard(self) -> Tensor:
        exponents = torch.arange(len(self.freqs), device=self.freqs.device) / len(self.freqs)
        return 10000.0**-exponents


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (0, 1), (2, 3), ... of ``x (..., positions, K)`` by the angles.

    All first halves of the pairs come out before all second ones. Attention sees only dot products
    of queries and keys in the same order, so any order will do, and this one needs no interleaving.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(x.dtype)


class HeadNorm(nn.RMSNorm):
    """RMS norm that keeps the dtype of what it is given, under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis."""
        with as_told(x.device.type):
            return functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_width = width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = HeadNorm(head_width, eps=_NORM_EPS) if qk_norm else nn.Identity()
        self.k_norm = HeadNorm(head_width, eps=_NORM_EPS) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x_NLD: Tensor,
        rotation: tuple[Tensor, Tensor] | None = None,
        share: TokenShare | None = None,
    ) -> Tensor:
        """Attend over ``L``.

        Args:
            x_NLD: tokens; where they are shared among ranks, this rank's.
            rotation: cosine and sine of each position's angles.
            share: how they are shared; None: they are all here.
        """
        if x_NLD.shape[1] == 1 and share is None:
            projected: Tensor = self.proj(self._values(x_NLD))
            return projected
        qkv = rearrange(
            self.qkv(x_NLD), "N L (three A K) -> three N A L K", three=3, A=self.num_heads
        )
        q, k, v = qkv if share is None else share.to_heads(qkv)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        attended = functional.scaled_dot_product_attention(q, k, v)
        if share is not None:
            attended = share.to_tokens(attended, self.num_heads)
        result: Tensor = self.proj(rearrange(attended, "N A L K -> N L (A K)"))
        return result

    def _values(self, x_NLD: Tensor) -> Tensor:
        """Return the values alone: what attention over a single key gives.

        Queries and keys don't matter then. Their gradients are zeros, as if they had been used, so
        that data parallelism finds a gradient of every parameter.
        """
        width = x_NLD.shape[-1]
        bias = self.qkv.bias[2 * width :]
        for norm in (self.q_norm, self.k_norm):
            for unused in norm.parameters():
                bias = bias + 0 * unused.sum()
        return functional.linear(x_NLD, self.qkv.weight[2 * width :], bias)


class CrossAttention(nn.Module):
    """Multi-head attention of video tokens over text tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, text: PackedText) -> Tensor:
        """Let the video tokens of each sample attend to its own text; without any it gets zeros."""
        q = rearrange(self.q_linear(x_BLD), "B L (A K) -> B L A K", A=self.num_heads)
        # Padding must not matter, and a sample's only row may be padding. Its gradient, which
        # kernels leave unset, comes back through here as well.
        kv = self.kv_linear(text.tokens_PD).masked_fill(text.padding_P1, 0)
        k, v = rearrange(kv, "P (two A K) -> two P A K", two=2, A=self.num_heads)
        attended = attend_to_packed(q, k, v, text.offsets, text.max_tokens)
        projected: Tensor = self.proj(rearrange(attended, "B L A K -> B L (A K)"))
        return projected
