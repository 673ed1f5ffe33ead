"""The diffusion transformer in plain eager torch: what ours is measured against.

The same maths, weights and call as `kinetoscope.models.stdit.model.STDiT`, written down one
expression after the other: text padded and masked, nothing fused or skipped. Attention is spelled
out, or torch's own where the caller says so; blocks are computed again in the backward pass where
the config asks for any activation checkpointing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kinetoscope.models.stdit.config import STDiTConfig

_EPS = 1e-6

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention of queries, keys and values ``(..., length, K)`` with a bias of the scores."""


def spelled_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attend with the scores in memory."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    return scores.softmax(dim=-1) @ v


def in_one_call(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attend with torch's own function."""
    if bias is not None:
        bias = bias.to(q.dtype)
    return nn.functional.scaled_dot_product_attention(q, k, v, bias)


class EagerSTDiT(nn.Module):
    """Takes the state dict and the arguments of ``STDiT``, and gives its output."""

    takes_packed_text = False

    def __init__(self, config: STDiTConfig, attend: Attend = spelled_out) -> None:
        super().__init__()
        self.config = config
        width = config.width
        out_features = math.prod(config.patch_size) * config.out_channels
        self.rope = _Frequencies(width // config.num_heads)
        self.x_embedder = nn.ModuleDict(
            {"proj": nn.Conv3d(config.in_channels, width, config.patch_size, config.patch_size)}
        )
        self.t_embedder, self.fps_embedder = _Scalar(width), _Scalar(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = _Text(config)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(_Block(config, attend, time=time) for _ in range(config.depth))
            for time in (False, True)
        )
        self.final_layer = _Final(width, out_features)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask_BS: Tensor | None = None,  # noqa: N803 - the argument's name in ours
        **given: Any,
    ) -> Tensor:
        """Return what ``STDiT`` returns."""
        config, (batch, _, t, h, w) = self.config, x.shape
        p, q, r = config.patch_size
        x = nn.functional.pad(x, (0, -w % r, 0, -h % q, 0, -t % p))
        tokens = self.x_embedder["proj"](x)
        frames, rows, columns = tokens.shape[2:]
        x = tokens.flatten(3).permute(0, 2, 3, 1)
        x = x + self._positions(rows, columns, given["height_B"][0] * given["width_B"][0])
        fps = given["fps_B"]
        fps_embedding = self.fps_embedder(fps.repeat(batch // len(fps)))
        time = self.t_embedder(timestep) + fps_embedding
        clean = self.t_embedder(torch.zeros_like(timestep)) + fps_embedding
        mask = given.get("frame_mask_Bt")
        if mask is None:
            mask = torch.ones(batch, frames, dtype=torch.bool, device=x.device)
        mask = mask[:, :, None, None]
        vectors = (self.t_block(v).view(batch, 1, 6, -1) for v in (time, clean))
        modulation = torch.where(mask, *vectors)
        text, text_mask = _padded(text, text_mask_BS, given.get("text_lengths"))
        keys, bias = self.y_embedder(text, text_mask)
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = self._run(spatial, x, keys, bias, modulation, None)
            x = self._run(temporal, x, keys, bias, modulation, self.rope(frames))
        x = self.final_layer(x, time, clean, mask, compat=config.final_layer_compat)
        x = x.view(batch, frames, rows, columns, p, q, r, config.out_channels)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        x = x.reshape(batch, config.out_channels, frames * p, rows * q, columns * r)
        return x[:, :, :t, :h, :w]

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        again = self.config.activation_checkpointing != "none" and torch.is_grad_enabled()
        ran: Tensor = checkpoint(block, *inputs, use_reentrant=False) if again else block(*inputs)
        return ran

    def _positions(self, rows: int, columns: int, area: Tensor) -> Tensor:
        width, base = self.config.width, round(math.sqrt(rows * columns))
        scale = area.sqrt() / self.config.input_sq_size
        row = torch.arange(rows, device=area.device) / scale * (base / rows)
        column = torch.arange(columns, device=area.device) / scale * (base / columns)
        frequencies = 10000 ** (-torch.arange(width // 4, device=area.device) / (width // 4))
        by_row, by_column = (torch.outer(x, frequencies) for x in (row, column))
        by_row = torch.cat((by_row.sin(), by_row.cos()), dim=1)[:, None].expand(-1, columns, -1)
        by_column = torch.cat((by_column.sin(), by_column.cos()), dim=1).expand(rows, -1, -1)
        return torch.cat((by_column, by_row), dim=-1).flatten(0, 1)


class _Frequencies(nn.Module):
    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(torch.empty(head_width // 2), requires_grad=False)

    def forward(self, positions: int) -> Tensor:
        place = torch.arange(positions, device=self.freqs.device).float()
        return torch.outer(place, self.freqs).repeat_interleave(2, dim=1)


class _Scalar(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        frequencies = 10000 ** (-torch.arange(128, device=value.device) / 128)
        angles = torch.outer(value.float(), frequencies)
        embedded: Tensor = self.mlp(torch.cat((angles.cos(), angles.sin()), dim=1))
        return embedded


class _Text(nn.Module):
    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.skip = config.skip_text_embedder
        self.y_proj = _Mlp(config.text_width, config.width, config.width)
        self.register_buffer("y_embedding", torch.empty(config.max_text_tokens, config.text_width))

    def forward(self, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if mask is None:
            mask = torch.ones(text.shape[:2], device=text.device)
        mask = mask.repeat(len(text) // len(mask), 1)
        bias = torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, -torch.inf)
        return text if self.skip else self.y_proj(text), bias[:, None, None]


class _Mlp(nn.Module):
    def __init__(self, given: int, hidden: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(given, hidden), nn.Linear(hidden, width)
        self.gelu = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.fc2(self.gelu(self.fc1(x)))
        return mapped


class _RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + _EPS)
        return normed * self.weight


class _SelfAttention(nn.Module):
    def __init__(self, config: STDiTConfig, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        width, head_width = config.width, config.width // config.num_heads
        self.num_heads = config.num_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm = _RMSNorm(head_width) if config.qk_norm else nn.Identity()
        self.k_norm = _RMSNorm(head_width) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        sequences, length, width = x.shape
        qkv = self.qkv(x).view(sequences, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = (x * angles.cos() + _rotate_half(x) * angles.sin() for x in (q, k))
        x = self.attend(q, k, v, None).transpose(1, 2).reshape(sequences, length, width)
        projected: Tensor = self.proj(x)
        return projected


class _CrossAttention(nn.Module):
    def __init__(self, width: int, num_heads: int, attend: Attend) -> None:
        super().__init__()
        self.num_heads, self.attend = num_heads, attend
        self.q_linear, self.kv_linear = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q_linear(x).view(batch, length, self.num_heads, -1).transpose(1, 2)
        kv = self.kv_linear(text).view(batch, -1, 2, self.num_heads, width // self.num_heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        x = self.attend(q, k, v, bias).transpose(1, 2).reshape(batch, length, width)
        projected: Tensor = self.proj(x)
        return projected


class _Block(nn.Module):
    def __init__(self, config: STDiTConfig, attend: Attend, *, time: bool) -> None:
        super().__init__()
        width = config.width
        self.time = time
        self.scale_shift_table = nn.Parameter(torch.empty(6, width))
        self.attn = _SelfAttention(config, attend)
        self.cross_attn = _CrossAttention(width, config.num_heads, attend)
        self.mlp = _Mlp(width, int(width * config.mlp_ratio), width)

    def forward(
        self, x: Tensor, text: Tensor, bias: Tensor, modulation: Tensor, angles: Tensor | None
    ) -> Tensor:
        batch, frames, length, width = x.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (
            (self.scale_shift_table + modulation).unsqueeze(2).unbind(3)
        )
        y = _modulate(x, shift_a, scale_a)
        if self.time:
            y = y.transpose(1, 2).reshape(batch * length, frames, width)
            y = self.attn(y, angles).view(batch, length, frames, width).transpose(1, 2)
        else:
            y = self.attn(y.flatten(0, 1), None).view_as(x)
        x = x + gate_a * y
        x = x + self.cross_attn(x.flatten(1, 2), text, bias).view_as(x)
        x = x + gate_m * self.mlp(_modulate(x, shift_m, scale_m))
        return x  # noqa: RET504 - the sum is Any to mypy


class _Final(nn.Module):
    def __init__(self, width: int, out_features: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.empty(2, width))
        self.linear = nn.Linear(width, out_features)

    def forward(
        self, x: Tensor, time: Tensor, clean: Tensor, mask: Tensor, *, compat: bool
    ) -> Tensor:
        modulated = self._modulate(x, time)
        at_zero = self._modulate(modulated if compat else x, clean)
        patches: Tensor = self.linear(torch.where(mask, modulated, at_zero))
        return patches

    def _modulate(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + time[:, None])[:, :, None, None].unbind(1)
        return _modulate(x, shift, scale)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    modulated: Tensor = nn.functional.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift
    return modulated


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack((-second, first), dim=-1).flatten(-2)


def _padded(
    text: Tensor, mask: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if lengths is None:
        return text, mask
    samples = text[0].split(lengths.tolist())
    padded = nn.utils.rnn.pad_sequence(list(samples), batch_first=True)
    return padded, torch.arange(padded.shape[1], device=text.device) < lengths[:, None]
