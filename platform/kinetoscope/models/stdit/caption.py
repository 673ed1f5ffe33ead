"""How STDiT takes its text: padded or packed, from the text encoder or projected already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinetoscope.models.layers.packed_text import PackedText, pack, packed_from_lengths
from kinetoscope.models.stdit.blocks import Mlp


class TextEmbedder(nn.Module):
    """Project text embeddings to the model's width, with a fixed null text for guidance.

    Args:
        text_width: of the text encoder.
        width: of the model.
        max_tokens: length of the null text.
        skip: the text that comes is projected already; the weights are there but rest unused.
    """

    y_embedding: Tensor

    def __init__(self, text_width: int, width: int, max_tokens: int, *, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.max_tokens = max_tokens
        self.given_width = width if skip else text_width
        self.y_proj = Mlp(text_width, width, width)
        self.register_buffer("y_embedding", torch.empty(max_tokens, text_width))

    def forward(self, text: Tensor) -> Tensor:
        """Project the last axis."""
        projected: Tensor = self.y_proj(text.to(self.y_proj.fc1.weight.dtype))
        return projected

    def embed(
        self,
        text_BSD: Tensor,
        text_mask_BS: Tensor | None = None,
        drop_text_B: Tensor | None = None,
    ) -> PackedText:
        """Drop the padding and project the rest.

        Args:
            text_BSD: embeddings of the text encoder (their projections with ``skip``).
            text_mask_BS: not 0 where a token counts; fewer rows are repeated to the batch.
            drop_text_B: True where the null text replaces the caption, whose mask stays.

        Raises:
            ValueError: the shapes do not fit.
        """
        if text_BSD.shape[-1] != self.given_width or text_BSD.shape[1] > self.max_tokens:
            raise ValueError(
                f"text embeddings are {tuple(text_BSD.shape)}, not (B, at most {self.max_tokens}, "
                f"{self.given_width})"
            )
        if drop_text_B is not None:
            text_BSD = self._dropped(text_BSD, drop_text_B)
        if text_mask_BS is not None:
            text_mask_BS = repeated(text_mask_BS, len(text_BSD), "text mask")
            if text_mask_BS.shape != text_BSD.shape[:2]:
                raise ValueError(
                    f"text mask is {tuple(text_mask_BS.shape)}, not {tuple(text_BSD.shape[:2])}"
                )
        return self._projected(pack(text_BSD, text_mask_BS))

    def embed_packed(self, text_1PD: Tensor, lengths: Sequence[int] | Tensor) -> PackedText:
        """Do the same with text ``(1, sum(lengths), D)`` that has no padding.

        Raises:
            ValueError: the shapes do not fit.
        """
        if text_1PD.shape[-1] != self.given_width:
            raise ValueError(f"packed text is {tuple(text_1PD.shape)}, not {self.given_width} wide")
        return self._projected(packed_from_lengths(text_1PD, lengths))

    def _dropped(self, text_BSD: Tensor, drop_text_B: Tensor) -> Tensor:
        if self.skip:
            raise ValueError(
                "drop_text_B needs the text embedder, which the config skips: put the projected "
                "null text into the features instead"
            )
        null = self.y_embedding[: text_BSD.shape[1]]
        return torch.where(drop_text_B[:, None, None], null, text_BSD)

    def _projected(self, text: PackedText) -> PackedText:
        if self.skip:
            dtype = self.y_proj.fc1.weight.dtype
            return PackedText(text.tokens_PD.to(dtype), text.lengths)
        return PackedText(self(text.tokens_PD), text.lengths)


def repeated(values: Tensor, batch: int, name: str) -> Tensor:
    """Return the rows, over and over, until there are ``batch`` (the reference's guidance halves).

    Raises:
        ValueError: that is no whole number of times.
    """
    if not len(values) or batch % len(values):
        raise ValueError(f"{name} has {len(values)} rows, which can't be repeated to {batch}")
    return values.repeat(batch // len(values), *(1 for _ in values.shape[1:]))
