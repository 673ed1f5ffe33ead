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

from kinetoscope.models.dtypes import as_told, widened
from kinetoscope.models.layers.attention import CrossAttention, SelfAttention
from kinetoscope.models.layers.packed_text import PackedText
from kinetoscope.models.layers.sequence_parallel import TokenShare

_NORM_EPS = 1e-6


class Mlp(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, in_width: int, hidden_width: int, out_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        hidden: Tensor = self.fc1(x)
        if torch.is_grad_enabled():
            hidden = functional.gelu(hidden, approximate="tanh")
        else:
            # In place: a second buffer of this, the largest size, costs more than the maths.
            torch.ops.aten.gelu_(hidden, approximate="tanh")
        mapped: Tensor = self.fc2(hidden)
        return mapped


def modulate(x_BtLD: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return ``norm(x) * (1 + scale) + shift`` with an affine-free layer norm over ``D``.

    Args:
        x_BtLD: tokens, whose dtype the result has.
        shift: vectors, in float32 at least.
        scale: likewise.
    """
    # Autocast would norm, and then keep, float32 copies of the tokens.
    with as_told(x_BtLD.device.type):
        normed = functional.layer_norm(x_BtLD, x_BtLD.shape[-1:], eps=_NORM_EPS)
    return torch.addcmul(shift, normed, 1 + scale).to(x_BtLD.dtype)


def gated(x_BtLD: Tensor, gate: Tensor, change_BtLD: Tensor) -> Tensor:
    """Return ``x + gate * change``, rounded once, in the dtype of the tokens ``x``."""
    return torch.addcmul(x_BtLD, gate, change_BtLD).to(x_BtLD.dtype)


def _sum_of_vectors(table: Tensor, vectors: Tensor) -> Tensor:
    # In float32 at least: rounded vectors are wrong in the same way for all tokens.
    return widened(table) + vectors


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
        text: PackedText,
        modulation_Bf6D: Tensor,
        rotation: tuple[Tensor, Tensor] | None = None,
        share: TokenShare | None = None,
    ) -> Tensor:
        """Return the tokens after the block.

        Args:
            x_BtLD: video tokens.
            text: projected text tokens.
            modulation_Bf6D: shift, scale, gate of attention and of the MLP; ``f`` is 1 or ``t``.
            rotation: cosine and sine of the frames' rotary angles (time blocks).
            share: how the patches are shared among ranks (space blocks); None: they are all here.
        """
        vectors = _sum_of_vectors(self.scale_shift_table, modulation_Bf6D)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = vectors[
            :, :, None
        ].unbind(dim=3)
        attended = self._self_attention(modulate(x_BtLD, shift_attn, scale_attn), rotation, share)
        x = gated(x_BtLD, gate_attn, attended)
        crossed = self.cross_attn(x.flatten(1, 2), text)
        x = x + crossed.view_as(x)
        return gated(x, gate_mlp, self.mlp(modulate(x, shift_mlp, scale_mlp)))

    def _self_attention(
        self,
        x_BtLD: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        share: TokenShare | None,
    ) -> Tensor:
        if self.axis == "space":
            attended: Tensor = self.attn(x_BtLD.flatten(0, 1), share=share)
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
        vectors = _sum_of_vectors(self.scale_shift_table, time_BD[:, None])
        shift, scale = vectors[:, :, None, None].unbind(dim=1)
        return modulate(x_BtLD, shift, scale)
