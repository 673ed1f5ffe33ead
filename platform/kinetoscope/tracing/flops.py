"""Floating-point operations of torch's and our own operators, two per multiplication and addition.

Products alone count: of matrices, convolutions and attention. All else is bound by memory, not by
arithmetic, and no more than a few per cent. What a kernel computes again for want of memory
(attention's backward) is not counted, so that the sum over a step without activation checkpointing
is what model FLOPs utilisation divides by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

Formula = Callable[[Sequence[Any], Any], float]


def flops_of(operator: OpOverload, args: Sequence[Any], output: Any) -> float:
    """Return the operations of one call; 0 for an operator without products.

    Args:
        operator: as a dispatch mode sees it.
        args: its positional arguments.
        output: what it returned.
    """
    formula = _FORMULAS.get(operator.overloadpacket.__name__)
    return 0.0 if formula is None else formula(args, output)


def attention_flops(query: Tensor, num_keys: int, value_width: int) -> float:
    """Return those of queries ``... L K`` that each attend to ``num_keys`` keys."""
    return 2.0 * math.prod(query.shape[:-1]) * num_keys * (query.shape[-1] + value_width)


def _product(first: Tensor, output: Tensor) -> float:
    return 2.0 * output.numel() * first.shape[-1]


def _taps(elements: Tensor, weight: Tensor) -> float:
    return 2.0 * elements.numel() * weight[0].numel()


def _mm(args: Sequence[Any], output: Any) -> float:
    return _product(args[0], output)


def _addmm(args: Sequence[Any], output: Any) -> float:
    return _product(args[1], output)


def _convolution(args: Sequence[Any], output: Any) -> float:
    x, weight, transposed = args[0], args[1], args[6]
    return _taps(x if transposed else output, weight)


def _convolution_backward(args: Sequence[Any], output: Any) -> float:
    del output
    grad, x, weight, transposed, needs = args[0], args[1], args[2], args[7], args[10]
    return _taps(x if transposed else grad, weight) * sum(map(bool, needs[:2]))


def _attention(args: Sequence[Any], output: Any) -> float:
    del output
    query, key, value = args[:3]
    return attention_flops(query, key.shape[-2], value.shape[-1])


def _attention_backward(args: Sequence[Any], output: Any) -> float:
    del output
    query, key, value = args[1:4]
    return 2.0 * attention_flops(query, key.shape[-2], value.shape[-1])


def _packed_attention(args: Sequence[Any], output: Any) -> float:
    del output
    query, num_keys = args[0], args[4]
    return attention_flops(query, num_keys, query.shape[-1])


def _packed_attention_backward(args: Sequence[Any], output: Any) -> float:
    del output
    query, num_keys = args[1][0], args[2]
    return 2.0 * attention_flops(query, num_keys, query.shape[-1])


_ATTENTIONS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)

_FORMULAS: dict[str, Formula] = {
    "mm": _mm,
    "bmm": _mm,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    # Every text counts with the most tokens that it may have.
    "attend_to_packed": _packed_attention,
    "attend_to_packed_backward": _packed_attention_backward,
    **dict.fromkeys(_ATTENTIONS, _attention),
    **{f"{name}_backward": _attention_backward for name in _ATTENTIONS},
}
