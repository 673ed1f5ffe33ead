"""Text of a batch without its padding.

Captions of a batch differ in length. Their tokens are laid end to end, so that neither projections
nor attention spend anything on padding (Open-Sora 1.2 does so through xformers). What is left of it
makes the number of rows a multiple of 256: few shapes for an allocator, and one graph for all.

Where each row comes from is decided on the host, from the masks; all else is the device's business
and waits for nothing.

Shapes: ``B`` batch, ``S`` text tokens, ``P`` packed rows, ``D`` width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_ROWS_MULTIPLE = 256
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class PackedText:
    """Text tokens of a batch, sample after sample.

    Attributes:
        tokens_PD: a row for each token that counts, and some that don't (`text_places`).
        padding_P1: True where a row does not count. What it holds is finite, and means nothing.
        offsets: int32, ``B + 1``: where each sample's rows begin, and where the last one's end.
        max_tokens: no sample has more; a bound that is known without looking at the device.
    """

    tokens_PD: Tensor
    padding_P1: Tensor
    offsets: Tensor
    max_tokens: int

    @classmethod
    def at(cls, tokens_PD: Tensor, places_P2: Tensor, *, batch: int, max_tokens: int) -> PackedText:
        """Return rows with their places (`text_places`), which are on the same device."""
        samples_P, positions_P = places_P2.unbind(dim=1)
        starts = torch.arange(batch + 1, device=places_P2.device)
        offsets = torch.searchsorted(samples_P.contiguous(), starts, out_int32=True)
        padding_P1 = (positions_P < 0)[:, None]
        _may_be_longer(tokens_PD, padding_P1)
        return cls(tokens_PD, padding_P1, offsets, max_tokens)


def text_places(text_mask_BS: Tensor) -> Tensor:
    """Return where the rows of packed text come from: ``(sample, position)``, ``P 2``, int64.

    First the tokens that count, in order. A sample without any gets one row of position -1, since
    kernels refuse to attend to nothing: attention gives it zeros. Rows of sample ``B`` and position
    -1 follow, up to a multiple of 256, but not beyond what padded text would take.

    Args:
        text_mask_BS: not 0 where a token counts, in any pattern. On a GPU, this waits for it.
    """
    mask_BS = text_mask_BS.cpu().bool()
    if not mask_BS.shape[1]:
        mask_BS = mask_BS.new_zeros((len(mask_BS), 1))
    has_row_BS = mask_BS.clone()
    has_row_BS[~mask_BS.any(dim=1), 0] = True
    places_P2 = has_row_BS.nonzero()
    places_P2[~mask_BS[has_row_BS], 1] = _NOWHERE
    num_rows = -(-len(places_P2) // _ROWS_MULTIPLE) * _ROWS_MULTIPLE
    missing = min(num_rows, mask_BS.numel()) - len(places_P2)
    end = torch.tensor([[len(mask_BS), _NOWHERE]]).expand(missing, 2)
    return torch.cat((places_P2, end))


def pack(text_BSD: Tensor, text_mask_BS: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows ``P D`` and the places ``P 2`` of padded text, both on its device.

    Args:
        text_BSD: embeddings; those of tokens that don't count may be anything.
        text_mask_BS: not 0 where a token counts, in any pattern; None keeps all.
    """
    batch, length = text_BSD.shape[:2]
    device = text_BSD.device
    if text_mask_BS is None and length:
        samples, positions = (torch.arange(n, device=device) for n in (batch, length))
        return text_BSD.flatten(0, 1), torch.cartesian_prod(samples, positions)
    mask_BS = text_BSD.new_zeros((batch, 0)) if text_mask_BS is None else text_mask_BS
    places_P2 = text_places(mask_BS).to(device, non_blocking=True)
    samples_P, positions_P = places_P2.unbind(dim=1)
    return _rows(text_BSD.flatten(0, 1), samples_P * length + positions_P, places_P2), places_P2


def pack_again(text_1PD: Tensor, lengths: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and their places of text ``(1, sum(lengths), D)`` that has no padding.

    Raises:
        ValueError: the shape is another one.
    """
    given = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    whole = tuple(int(length) for length in given)
    shape = tuple(text_1PD.shape)
    if len(shape) != 3 or shape[:2] != (1, sum(whole)) or min(whole, default=0) < 0:  # noqa: PLR2004 - 1PD
        raise ValueError(f"packed text is {shape}, not (1, sum of the lengths {whole}, D)")
    positions = torch.arange(max(whole, default=0))
    places_P2 = text_places(positions < torch.tensor(whole)[:, None])
    number_P = (places_P2[:, 1] >= 0).cumsum(0) - 1
    places_P2, number_P = (x.to(text_1PD.device, non_blocking=True) for x in (places_P2, number_P))
    return _rows(text_1PD[0], number_P, places_P2), places_P2


def _rows(tokens_ND: Tensor, number_P: Tensor, places_P2: Tensor) -> Tensor:
    """Return tokens by number; zeros, whatever the number, in rows that don't count."""
    if not len(tokens_ND):
        return tokens_ND.new_zeros((len(places_P2), tokens_ND.shape[1]))
    padding_P1 = places_P2[:, 1:] < 0
    number_P = number_P.masked_fill(padding_P1[:, 0], 0)
    return functional.embedding(number_P, tokens_ND).masked_fill(padding_P1, 0)


def _may_be_longer(*rows: Tensor) -> None:
    """Tell a compiler that the number of rows changes: one graph then serves all numbers."""
    # Where nothing is compiled it isn't loaded, which takes seconds.
    compiler = sys.modules.get("torch._dynamo")
    if compiler is not None and not torch.compiler.is_compiling():
        for x in rows:
            compiler.maybe_mark_dynamic(x, 0)
