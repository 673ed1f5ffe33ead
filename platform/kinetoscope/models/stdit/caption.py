"""How STDiT takes its text: padded or packed, from the text encoder or projected already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kinetoscope.models.layers.packed_text import PackedText, pack, pack_again
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
        if text_mask_BS is not None:
            text_mask_BS = repeated(text_mask_BS, len(text_BSD), "text mask")
            if text_mask_BS.shape != text_BSD.shape[:2]:
                raise ValueError(
                    f"text mask is {tuple(text_mask_BS.shape)}, not {tuple(text_BSD.shape[:2])}"
                )
        return self.embed_rows(*pack(text_BSD, text_mask_BS), len(text_BSD), drop_text_B)

    def embed_packed(
        self,
        text_1PD: Tensor,
        lengths: Sequence[int] | Tensor,
        drop_text_B: Tensor | None = None,
    ) -> PackedText:
        """Do the same with text ``(1, sum(lengths), D)`` that has no padding.

        Raises:
            ValueError: the shapes do not fit.
        """
        rows = pack_again(text_1PD, lengths)
        text = self.embed_rows(*rows, len(lengths), drop_text_B)
        return replace(text, max_tokens=max([self.max_tokens, *map(int, lengths)]))

    def embed_rows(
        self,
        text_PD: Tensor,
        places_P2: Tensor,
        batch: int,
        drop_text_B: Tensor | None = None,
    ) -> PackedText:
        """Do the same with packed text, without waiting for the device.

        Args:
            text_PD: rows of packed text.
            places_P2: where they come from (`layers.packed_text.text_places`).
            batch: number of samples.
            drop_text_B: True where the null text replaces the caption, whose mask stays.

        Raises:
            ValueError: the shapes do not fit.
        """
        if text_PD.shape[-1] != self.given_width or len(text_PD) != len(places_P2):
            raise ValueError(
                f"packed text is {tuple(text_PD.shape)}, not {len(places_P2)} rows that are "
                f"{self.given_width} wide"
            )
        if drop_text_B is not None:
            if len(drop_text_B) != batch:
                raise ValueError(f"drop_text_B has {len(drop_text_B)} entries for {batch} samples")
            text_PD = self._dropped(text_PD, places_P2, drop_text_B)
        tokens = text_PD.to(self.y_proj.fc1.weight.dtype) if self.skip else self(text_PD)
        return PackedText.at(tokens, places_P2, batch=batch, max_tokens=self.max_tokens)

    def _dropped(self, text_PD: Tensor, places_P2: Tensor, drop_text_B: Tensor) -> Tensor:
        if self.skip:
            raise ValueError(
                "drop_text_B needs the text embedder, which the config skips: put the projected "
                "null text into the features instead"
            )
        # What is nobody's and nowhere may become anything.
        samples_P = places_P2[:, 0].clamp(max=len(drop_text_B) - 1)
        null_PD = self.y_embedding[places_P2[:, 1]]
        return torch.where(drop_text_B[samples_P, None], null_PD, text_PD)


def repeated(values: Tensor, batch: int, name: str) -> Tensor:
    """Return the rows, over and over, until there are ``batch`` (the reference's guidance halves).

    Raises:
        ValueError: that is no whole number of times.
    """
    if not len(values) or batch % len(values):
        raise ValueError(f"{name} has {len(values)} rows, which can't be repeated to {batch}")
    return values.repeat(batch // len(values), *(1 for _ in values.shape[1:]))
