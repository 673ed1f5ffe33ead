"""Floating-point operations of STDiT, counted from its matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinetoscope.models.stdit.config import STDiTConfig


def forward_flops(config: STDiTConfig, tokens: tuple[int, int]) -> float:
    """Return the operations of one sample's forward pass, two per multiplication and addition.

    Norms, activations and the few rows of times and sizes are left out. Every text counts with
    ``max_text_tokens``; packed text, which is shorter, costs less.

    Args:
        config: of the model.
        tokens: frames of tokens, and tokens of a frame.
    """
    frames, per_frame = tokens
    total, width, text = frames * per_frame, config.width, config.max_text_tokens
    patch = math.prod(config.patch_size)
    # Per block: attention's four projections, cross-attention's two of the video and two of the
    # text, and the MLP; then the products of queries, keys and values.
    linear = 2 * width**2 * (total * (4 + 2 + 2 * config.mlp_ratio) + 2 * text)
    over_text = 4 * total * text * width
    within = 4 * total * width * (per_frame + frames)
    blocks = config.depth * (2 * (linear + over_text) + within)
    embedded = 2 * total * width * patch * (config.in_channels + config.out_channels)
    projected = 0 if config.skip_text_embedder else 2 * text * width * (config.text_width + width)
    return float(blocks + embedded + projected)
