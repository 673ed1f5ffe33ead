"""Sequence parallelism of transformers (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv:2309.14509).

The ranks of a *sequence group* share the patches of every frame. Attention within a frame swaps the
split by tokens for a split by heads and back; all else is local, and one gather at the end gives
every rank the whole prediction. ``r`` in shapes is the rank, ``l`` one rank's tokens of ``L``.

The ranks of a group must have the same weights and the same inputs, and differentiate the same
loss. Then the gradient of the loss is the mean of the ranks' gradients, over the group as well as,
for the mean of several groups' losses, over all ranks: what data parallelism computes anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional


class TokenShare:
    """This rank's share of the patches of each frame, of one forward pass.

    Tokens and heads are padded with zeros to multiples of the group's size, so that any number of
    them can be shared. Padding tokens never enter attention and are dropped by ``gather``.

    Args:
        group: the ranks that share them.
        num_tokens: patches of a frame, ``L``.
    """

    def __init__(self, group: ProcessGroup, num_tokens: int) -> None:
        self._group = group
        self._size = dist.get_world_size(group)
        self._rank = dist.get_rank(group)
        self._num_tokens = num_tokens
        self._own_tokens = -(-num_tokens // self._size)

    def split(self, x_BtLD: Tensor) -> Tensor:
        """Return this rank's tokens ``B t l D``; the last ranks' are padding in part or whole."""
        first = self._rank * self._own_tokens
        own = x_BtLD[:, :, first : first + self._own_tokens]
        return _pad(own, tokens=self._own_tokens - own.shape[2])

    def gather(self, x_BtlF: Tensor) -> Tensor:
        """Return all ranks' tokens ``B t L F``, on every rank."""
        parts = _AllGather.apply(x_BtlF, self._group)
        whole: Tensor = rearrange(parts, "r B t l F -> B t (r l) F")
        return whole[:, :, : self._num_tokens]

    def to_heads(self, x_NAlK: Tensor) -> Tensor:
        """Return some heads of all tokens, ``N a L K``, of all heads of this rank's tokens.

        ``N`` may be any number of axes.
        """
        padded = _pad(x_NAlK, heads=-x_NAlK.shape[-3] % self._size)
        outgoing = rearrange(padded, "... (r a) l K -> r ... a l K", r=self._size)
        received: Tensor = _AllToAll.apply(outgoing, self._group)
        return rearrange(received, "r ... a l K -> ... a (r l) K")[..., : self._num_tokens, :]

    def to_tokens(self, x_NaLK: Tensor, num_heads: int) -> Tensor:
        """Undo ``to_heads``: return all ``num_heads`` heads of this rank's tokens."""
        padded = _pad(x_NaLK, tokens=self._size * self._own_tokens - self._num_tokens)
        outgoing = rearrange(padded, "... a (r l) K -> r ... a l K", r=self._size)
        received: Tensor = _AllToAll.apply(outgoing, self._group)
        return rearrange(received, "r ... a l K -> ... (r a) l K")[..., :num_heads, :, :]


class _AllToAll(torch.autograd.Function):
    """Send slice ``i`` of the first axis to rank ``i``; get rank ``i``'s slice in its place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _all_to_all(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _all_to_all(gradients[0], ctx.group), None


class _AllGather(torch.autograd.Function):
    """Stack all ranks' tensors along a new first axis.

    All ranks go on to the same loss, so the sum of their gradients, which is what a rank's slice
    gets, is its own gradient times their number.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        stacked = x.new_empty((dist.get_world_size(group), *x.shape))
        dist.all_gather_into_tensor(stacked.flatten(0, 1), x.contiguous(), group=group)
        return stacked

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = gradients[0][dist.get_rank(ctx.group)]
        return own * dist.get_world_size(ctx.group), None


def _pad(x: Tensor, *, heads: int = 0, tokens: int = 0) -> Tensor:
    """Append zeros along the third-last and the second-last axis; without any, copy nothing."""
    return functional.pad(x, (0, 0, 0, tokens, 0, heads)) if heads or tokens else x


def _all_to_all(x: Tensor, group: ProcessGroup) -> Tensor:
    sent = x.contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    return received
