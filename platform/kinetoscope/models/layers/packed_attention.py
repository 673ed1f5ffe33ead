"""Attention of each sample's video tokens over its own text, as one operator.

The operator's shapes do not depend on the lengths of the texts, so a compiled graph serves them
all, and on a GPU nothing is read back: the kernels find each sample's keys by offsets there.

Shapes: ``B`` batch, ``L`` video tokens, ``P`` rows of packed text, ``A`` heads, ``K`` head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kinetoscope.models.dtypes import sum_dtype
from kinetoscope.models.layers.packed_kernels import (
    Inputs,
    fused,
    fused_backward,
    kernel_of,
    loop,
    loop_backward,
)


def attend_to_packed(
    q_BLAK: Tensor, k_PAK: Tensor, v_PAK: Tensor, offsets: Tensor, max_keys: int
) -> Tensor:
    """Let the queries of each sample attend to its own keys alone.

    Args:
        q_BLAK: queries.
        k_PAK: keys of all samples, end to end. Rows from ``offsets[-1]`` on are nobody's, and their
            gradients may be anything.
        v_PAK: values, likewise.
        offsets: int32, ``B + 1``, on the same device: sample ``i`` has the rows from
            ``offsets[i]`` to before ``offsets[i + 1]``, one at least.
        max_keys: no sample has more; a bound that is known without looking at the device.

    Returns:
        ``B L A K``, contiguous.
    """
    attended: Tensor = _attend(q_BLAK, k_PAK, v_PAK, offsets, max_keys)[0]
    return attended


@torch.library.custom_op("kinetoscope::attend_to_packed", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, max_keys: int
) -> tuple[Tensor, Tensor]:
    """Return what is attended to and the log-sum-exp of the scores, in the kernel's own shape."""
    given = Inputs(q, k, v, offsets, max_keys)
    kernel = kernel_of(given)
    return loop(given) if kernel == "loop" else fused(kernel, given)


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, max_keys: int) -> tuple[Tensor, Tensor]:
    given = Inputs(q, k, v, offsets, max_keys)
    kernel = kernel_of(given)
    if kernel != "loop":
        return fused(kernel, given)
    sums = sum_dtype(q.dtype)
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=sums)


@torch.library.custom_op("kinetoscope::attend_to_packed_backward", mutates_args=())
def _attend_backward(
    grad: Tensor, inputs: Sequence[Tensor], max_keys: int, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the queries, keys and values, which are the first ``inputs``."""
    q, k, v, offsets = inputs
    given = Inputs(q, k, v, offsets, max_keys)
    kernel = kernel_of(given)
    if kernel == "loop":
        return loop_backward(given, grad, out, lse)
    return fused_backward(kernel, given, grad, out, lse)


@_attend_backward.register_fake
def _(
    _grad: Tensor, inputs: Sequence[Tensor], _max_keys: int, _out: Tensor, _lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, _ = inputs
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.max_keys = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _differentiate(ctx: Any, grad: Tensor, _grad_lse: object) -> tuple[Tensor | None, ...]:
    *inputs, out, lse = ctx.saved_tensors
    return *_attend_backward(grad.contiguous(), inputs, ctx.max_keys, out, lse), None, None


_attend.register_autograd(_differentiate, setup_context=_keep)


# As torch counts attention: two products forward; backward two for each, and the scores anew.
@register_flop_formula(torch.ops.kinetoscope.attend_to_packed)
def _flops(q: Sequence[int], k: Sequence[int], *_others: object, **_named: object) -> int:
    return 2 * _product(q, k)


@register_flop_formula(torch.ops.kinetoscope.attend_to_packed_backward)
def _flops_backward(
    _grad: object, inputs: Sequence[Sequence[int]], *_others: object, **_named: object
) -> int:
    return 5 * _product(*inputs[:2])


def _product(q: Sequence[int], k: Sequence[int]) -> int:
    """Return the operations of one product: every row of text is read by one sample's queries."""
    return 2 * math.prod(q[1:]) * k[0]
