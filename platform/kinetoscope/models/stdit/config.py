"""Config of STDiT; the defaults are Open-Sora 1.2's (v1.2.0)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from kinetoscope.core.config_model import Effect
from kinetoscope.models.config import TransformerConfig


class STDiTConfig(TransformerConfig):
    """Spatial-temporal diffusion transformer (STDiT3); the defaults are XL/2."""

    pretrained_layouts: ClassVar[tuple[str, ...]] = ("stdit", "pixart")
    pretrained_module: ClassVar[str] = "kinetoscope.models.weights.open_sora.pretrained"

    kind: Literal["stdit"] = "stdit"

    depth: PositiveInt = 28
    """Pairs of one spatial and one temporal block."""
    width: PositiveInt = 1152
    num_heads: PositiveInt = 16
    mlp_ratio: float = 4.0
    predict_sigma: bool = True
    """Twice the output channels; the second half is never trained (kept for the weights)."""
    qk_norm: bool = True
    input_sq_size: PositiveInt = 512
    """Side in pixels at which positions have their natural scale."""
    temporal_position: Literal["rope", "rope+sincos"] = "rope"
    """STDiT3 has rotary embeddings alone; small models also want fixed sin-cos frame positions."""
    final_layer_compat: bool = True
    """Modulate condition frames twice in the final layer, as the released weights were trained."""
    freeze_text_projection: bool = False
    skip_text_embedder: bool = False
    """Text comes projected already (cached features); the projection's weights rest unused."""
    trainable: Literal["all", "temporal"] = "all"
    """``temporal`` freezes everything but the temporal blocks (``only_train_temporal``)."""
    activation_checkpointing: Annotated[Literal["none", "selective", "full"], Effect.NONE] = "none"
    """What backward computes again: nothing; all but the outputs of linear layers and attention;
    everything but the inputs of the blocks."""
    rounding: Literal["exact", "bfloat16"] = "exact"
    """``bfloat16`` rounds times, sizes, frame rates and the frequencies of positions as the
    reference's bf16 runs do, with which the released weights were trained (docs/numerics.md)."""

    @property
    def out_channels(self) -> int:
        """Channels that the model emits."""
        return self.in_channels * (2 if self.predict_sigma else 1)

    def flops(self, latent_size: tuple[int, int, int]) -> float:
        """Return the operations of one sample's forward pass, two per multiplication and addition.

        Norms, activations and the few rows of times and sizes are left out. Every text counts with
        ``max_text_tokens``; packed text, which is shorter, costs less.
        """
        frames, per_frame = self.tokens(latent_size)
        total, width, text = frames * per_frame, self.width, self.max_text_tokens
        patch = math.prod(self.patch_size)
        # Per block: attention's four projections, cross-attention's two of the video and two of the
        # text, and the MLP; then the products of queries, keys and values.
        linear = 2 * width**2 * (total * (4 + 2 + 2 * self.mlp_ratio) + 2 * text)
        over_text = 4 * total * text * width
        within = 4 * total * width * (per_frame + frames)
        blocks = self.depth * (2 * (linear + over_text) + within)
        embedded = 2 * total * width * patch * (self.in_channels + self.out_channels)
        projected = 0 if self.skip_text_embedder else 2 * text * width * (self.text_width + width)
        return float(blocks + embedded + projected)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.num_heads or self.width // self.num_heads % 2:
            raise ValueError(
                f"width={self.width} over num_heads={self.num_heads} must be an even whole number"
            )
        if self.width % 4:
            raise ValueError(f"width={self.width} must be a multiple of 4 (2D sin-cos positions)")
        return self


MODEL_CONFIG = STDiTConfig

STDIT_XL_2 = STDiTConfig()
"""The released size: 1,207,643,972 parameters."""
STDIT_3B_2 = STDiTConfig(width=1872, num_heads=26)
"""3,182,211,572 parameters; never released."""
