"""Attention, MLP and adaptive-norm blocks of STDiT (Zheng et al. 2024, Open-Sora 1.2).

Tokens travel as ``x_BtLD``: ``t`` latent frames of ``L`` patches each. Modulation vectors have a
frame axis ``f`` of length 1 (all frames alike) or ``t`` (condition frames have another time).
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

_NORM_EPS = 1e-6


class RotaryEmbedding(nn.Module):
    """Rotary angles of frame positions (Su et al. 2021), theta 10000 over the whole head width.

    ``freqs`` is a frozen parameter because it is part of the released state dict.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(torch.empty(head_width // 2), requires_grad=False)

    def reset_parameters(self) -> None:
        """Set the standard frequencies 10000^(-2i/K)."""
        exponents = torch.arange(len(self.freqs), device=self.freqs.device) / len(self.freqs)
        with torch.no_grad():
            self.freqs.copy_(10000.0**-exponents)

    def forward(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles, each (positions, K / 2)."""
        positions = torch.arange(num_positions, device=self.freqs.device, dtype=self.freqs.dtype)
        angles = torch.outer(positions, self.freqs).float()
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (0, 1), (2, 3), ... of ``x (..., positions, K)`` by the angles.

    All first halves of the pairs come out before all second ones. Attention sees only dot products
    of queries and keys in the same order, so any order will do, and this one needs no interleaving.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_width = width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(head_width, eps=_NORM_EPS) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(head_width, eps=_NORM_EPS) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x_NLD: Tensor, rotation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Attend over ``L``; ``rotation`` is the cosine and sine of each position's angles."""
        q, k, v = rearrange(
            self.qkv(x_NLD), "N L (three A K) -> three N A L K", three=3, A=self.num_heads
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return _project(self.proj, attended)


class CrossAttention(nn.Module):
    """Multi-head attention of video tokens over text tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, text_BSD: Tensor, text_mask_BS: Tensor | None) -> Tensor:
        """Attend to the text tokens whose mask is True (all, without a mask)."""
        q = rearrange(self.q_linear(x_BLD), "B L (A K) -> B A L K", A=self.num_heads)
        k, v = rearrange(
            self.kv_linear(text_BSD), "B S (two A K) -> two B A S K", two=2, A=self.num_heads
        )
        mask = None if text_mask_BS is None else text_mask_BS[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return _project(self.proj, attended)


def _project(proj: nn.Linear, attended_NALK: Tensor) -> Tensor:
    projected: Tensor = proj(rearrange(attended_NALK, "N A L K -> N L (A K)"))
    return projected


class Mlp(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, in_width: int, hidden_width: int, out_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        mapped: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
        return mapped


def modulate(x_BtLD: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return ``norm(x) * (1 + scale) + shift`` with an affine-free layer norm over ``D``."""
    normed = functional.layer_norm(x_BtLD, x_BtLD.shape[-1:], eps=_NORM_EPS)
    return torch.addcmul(shift, normed, 1 + scale)


class STDiTBlock(nn.Module):
    """Self-attention, cross-attention and MLP, the first and the last with adaptive norm and gate.

    Args:
        axis: what self-attention runs over: the patches of each frame, or the frames of each patch.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        axis: Literal["space", "time"],
        mlp_ratio: float,
        qk_norm: bool,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.scale_shift_table = nn.Parameter(torch.empty(6, width))
        self.attn = SelfAttention(width, num_heads, qk_norm=qk_norm)
        self.cross_attn = CrossAttention(width, num_heads)
        self.mlp = Mlp(width, int(width * mlp_ratio), width)

    def forward(
        self,
        x_BtLD: Tensor,
        text_BSD: Tensor,
        modulation_Bf6D: Tensor,
        text_mask_BS: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the tokens after the block.

        Args:
            x_BtLD: video tokens.
            text_BSD: projected text tokens.
            modulation_Bf6D: shift, scale, gate of attention and of the MLP; ``f`` is 1 or ``t``.
            text_mask_BS: True where a text token counts.
            rotation: cosine and sine of the frames' rotary angles (time blocks).
        """
        vectors = (self.scale_shift_table + modulation_Bf6D)[:, :, None].unbind(dim=3)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = vectors
        attended = self._self_attention(modulate(x_BtLD, shift_attn, scale_attn), rotation)
        x = torch.addcmul(x_BtLD, gate_attn, attended)
        crossed = self.cross_attn(x.flatten(1, 2), text_BSD, text_mask_BS)
        x = x + crossed.view_as(x)
        return torch.addcmul(x, gate_mlp, self.mlp(modulate(x, shift_mlp, scale_mlp)))

    def _self_attention(self, x_BtLD: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.axis == "space":
            attended: Tensor = self.attn(x_BtLD.flatten(0, 1))
            return attended.view_as(x_BtLD)
        attended = self.attn(rearrange(x_BtLD, "B t L D -> (B L) t D"), rotation)
        return rearrange(attended, "(B L) t D -> B t L D", B=len(x_BtLD))


class FinalLayer(nn.Module):
    """Adaptive norm and the linear map from tokens to patches.

    Args:
        width: of the tokens.
        out_features: values of a patch.
        compat: modulate condition frames a second time on top of the ordinary modulation, as the
            released weights were trained; those frames never enter the loss.
    """

    def __init__(self, width: int, out_features: int, *, compat: bool) -> None:
        super().__init__()
        self.compat = compat
        self.scale_shift_table = nn.Parameter(torch.empty(2, width))
        self.linear = nn.Linear(width, out_features)

    def forward(
        self,
        x_BtLD: Tensor,
        time_BD: Tensor,
        condition_time_BD: Tensor | None = None,
        frame_mask_Bt: Tensor | None = None,
    ) -> Tensor:
        """Return ``(B, t, L, out_features)``.

        Args:
            x_BtLD: video tokens.
            time_BD: embedding of time and frame rate.
            condition_time_BD: the same at time 0; given together with the mask.
            frame_mask_Bt: False marks condition frames.
        """
        modulated = self._modulate(x_BtLD, time_BD)
        if frame_mask_Bt is not None and condition_time_BD is not None:
            source = modulated if self.compat else x_BtLD
            clean = self._modulate(source, condition_time_BD)
            modulated = torch.where(frame_mask_Bt[:, :, None, None], modulated, clean)
        patches: Tensor = self.linear(modulated)
        return patches

    def _modulate(self, x_BtLD: Tensor, time_BD: Tensor) -> Tensor:
        vectors = self.scale_shift_table + time_BD[:, None]
        shift, scale = vectors[:, :, None, None].unbind(dim=1)
        return modulate(x_BtLD, shift, scale)
