"""Text of a batch without its padding, and attention over it.

Captions of a batch differ in length. Their tokens are laid end to end, so that neither projections
nor attention spend anything on padding (Open-Sora 1.2 does so through xformers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class PackedText:
    """Text tokens of a batch, sample after sample.

    Attributes:
        tokens_PD: all tokens that count, those of the first sample first.
        lengths: tokens of each sample, with the sum ``P``. A sample may have none: attention then
            gives it zeros.
    """

    tokens_PD: Tensor
    lengths: tuple[int, ...]


def pack(text_BSD: Tensor, text_mask_BS: Tensor | None) -> PackedText:
    """Drop the tokens whose mask is not True; any pattern will do, None keeps all."""
    batch, length = text_BSD.shape[:2]
    if text_mask_BS is None:
        return PackedText(text_BSD.flatten(0, 1), (length,) * batch)
    mask = text_mask_BS.bool()
    return PackedText(text_BSD[mask], tuple(mask.sum(dim=1).tolist()))


def packed_from_lengths(text_1PD: Tensor, lengths: Sequence[int] | Tensor) -> PackedText:
    """Wrap text ``(1, sum(lengths), D)`` that is packed already.

    Raises:
        ValueError: the shape is another one.
    """
    given = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    whole = tuple(int(length) for length in given)
    shape = tuple(text_1PD.shape)
    if len(shape) != 3 or shape[:2] != (1, sum(whole)) or min(whole, default=0) < 0:  # noqa: PLR2004 - 1PD
        raise ValueError(f"packed text is {shape}, not (1, sum of the lengths {whole}, D)")
    return PackedText(text_1PD[0], whole)


def attend_to_packed(
    q_BALK: Tensor, k_PAK: Tensor, v_PAK: Tensor, lengths: Sequence[int]
) -> Tensor:
    """Let the queries of each sample attend to its own keys alone.

    Args:
        q_BALK: queries.
        k_PAK: keys of all samples, end to end.
        v_PAK: values, likewise.
        lengths: keys of each sample, with the sum ``P``.

    Returns:
        ``B A L K``; zeros for a sample without keys.
    """
    if len(set(lengths)) == 1:
        split = (len(lengths), lengths[0])
        k, v = (x.unflatten(0, split).transpose(1, 2) for x in (k_PAK, v_PAK))
        return functional.scaled_dot_product_attention(q_BALK, k, v)
    if q_BALK.is_cuda:
        return attend_jagged(q_BALK, k_PAK, v_PAK, lengths)
    keys, values = (x.transpose(0, 1).split(list(lengths), dim=1) for x in (k_PAK, v_PAK))
    attended = [
        functional.scaled_dot_product_attention(q[None], k[None], v[None])
        for q, k, v in zip(q_BALK, keys, values, strict=True)
    ]
    # Attention leaves its result in the order B L A K: joined so, the heads merge without a copy.
    return torch.cat([x.transpose(1, 2) for x in attended]).transpose(1, 2)


def attend_jagged(q_BALK: Tensor, k_PAK: Tensor, v_PAK: Tensor, lengths: Sequence[int]) -> Tensor:
    """Do `attend_to_packed` in one kernel, through nested tensors (for accelerators)."""
    batch, _, num_queries, _ = q_BALK.shape
    device = q_BALK.device
    key_ends = torch.tensor((0, *lengths), device=device).cumsum(0)
    query_ends = torch.arange(batch + 1, device=device) * num_queries
    q_flat = q_BALK.transpose(1, 2).flatten(0, 1)
    q = torch.nested.nested_tensor_from_jagged(q_flat, query_ends)
    k = torch.nested.nested_tensor_from_jagged(k_PAK, key_ends)
    v = torch.nested.nested_tensor_from_jagged(v_PAK, key_ends)
    attended = functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    )
    rows: Tensor = attended.transpose(1, 2).values().unflatten(0, (batch, num_queries))
    return rows.transpose(1, 2)
