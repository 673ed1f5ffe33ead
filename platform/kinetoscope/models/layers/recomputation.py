"""Activation checkpointing: computing again in backward what forward did not keep."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

Recomputation = Literal["none", "selective", "full"]

_KEPT_OPERATORS = {
    "addmm",
    "mm",
    "bmm",
    "baddbmm",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_flash_attention_forward",
    "_efficient_attention_forward",
    "attend_to_packed",
}


def call(block: nn.Module, mode: Recomputation, *inputs: object) -> Tensor:
    """Return ``block(*inputs)``, keeping for backward what the mode says.

    Args:
        block: draws no random numbers.
        mode: ``none`` keeps all; ``selective`` the outputs of matrix products and attention, which
            are dear to compute; ``full`` the inputs alone.
        *inputs: positional arguments of the block.
    """
    if mode == "none" or not torch.is_grad_enabled():
        output: Tensor = block(*inputs)
        return output
    recomputed: Tensor = checkpoint(
        block,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=_selective_contexts if mode == "selective" else noop_context_fn,
    )
    return recomputed


def _policy(
    _context: object, operator: OpOverload, *_args: object, **_kwargs: object
) -> CheckpointPolicy:
    kept = operator.overloadpacket.__name__ in _KEPT_OPERATORS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


_selective_contexts = partial(create_selective_checkpoint_contexts, _policy)
