"""What computes attention over packed text (`packed_attention`): a GPU's fused kernels, or a loop.

Shapes: ``B`` batch, ``L`` video tokens, ``P`` rows of packed text, ``A`` heads, ``K`` head width.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Kernel = Literal["flash", "efficient", "loop"]

_FLASH_CAPABILITY, _FLASH_HEAD_WIDTH = (8, 0), 256
_HALF_TYPES = (torch.float16, torch.bfloat16)
_HEAD_WIDTH_MULTIPLE = 8
"""What the GPU kernels ask of the width of a head; others are padded with zeros."""

_aten = torch.ops.aten


class Inputs(NamedTuple):
    """Arguments of `packed_attention.attend_to_packed`."""

    q_BLAK: Tensor
    k_PAK: Tensor
    v_PAK: Tensor
    offsets: Tensor
    max_keys: int


def kernel_for(
    device_type: str, dtype: torch.dtype, capability: tuple[int, int], head_width: int
) -> Kernel:
    """Return what computes attention over packed text.

    The fused kernels are called as aten's operators, which all versions of torch from 2.5 have with
    the same arguments. ``torch.nn.attention.varlen`` wraps the first of them in newer versions, in
    each with other arguments, and knows no float32.

    Args:
        device_type: of the tensors, such as ``cuda``.
        dtype: of the tensors.
        capability: of the GPU (`torch.cuda.get_device_capability`).
        head_width: of the queries.

    Returns:
        ``flash`` (half precision, Ampere and later, narrow heads), ``efficient`` (other GPUs and
        heads, and float32) or ``loop``: one sample after the other, on the CPU.

    Raises:
        ValueError: GPUs have no kernel for the type.
    """
    if device_type != "cuda":
        return "loop"
    if dtype not in {*_HALF_TYPES, torch.float32}:
        raise ValueError(f"attention to text on a GPU takes half precision or float32, not {dtype}")
    half = dtype in _HALF_TYPES and capability >= _FLASH_CAPABILITY
    return "flash" if half and head_width <= _FLASH_HEAD_WIDTH else "efficient"


def kernel_of(given: Inputs) -> Kernel:
    """Return what computes attention for these inputs."""
    q = given.q_BLAK
    return kernel_for(q.device.type, q.dtype, _capability(), q.shape[-1])


@lru_cache(maxsize=1)
def _capability() -> tuple[int, int]:
    # Without a GPU its tensors are fake ones, which stand for those that we train on.
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)


def loop(given: Inputs) -> tuple[Tensor, Tensor]:
    """Return ``B L A K`` and the log-sum-exp of the scores, ``B L A``."""
    outs, sums = [], []
    for samples, rows in _groups(given.offsets):
        q, k, v = _of_group(given, samples, rows)
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        outs.append(out.transpose(1, 2))
        sums.append(lse.transpose(1, 2))
    return _joined(outs), _joined(sums)


def loop_backward(
    given: Inputs, grad: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values; nobody's rows get zeros."""
    parts: tuple[list[Tensor], ...] = ([], [], [])
    for samples, rows in _groups(given.offsets):
        own_grad, own_out, own_lse = (x[samples].transpose(1, 2) for x in (grad, out, lse))
        gradients = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            own_grad, *_of_group(given, samples, rows), own_out, own_lse, 0.0, False
        )
        for part, gradient in zip(parts, gradients, strict=True):
            part.append(gradient.transpose(1, 2))
    dq, dk, dv = map(_joined, (parts[0], *([x.flatten(0, 1) for x in part] for part in parts[1:])))
    missing = len(given.k_PAK) - len(dk)
    if missing:
        dk, dv = (functional.pad(x, (0, 0, 0, 0, 0, missing)) for x in (dk, dv))
    return dq, dk, dv


def _groups(offsets: Tensor) -> list[tuple[slice, slice]]:
    """Return which samples are computed together, and their rows: all, where lengths are equal."""
    ends = offsets.tolist()
    spans = list(pairwise(ends))
    if any(end <= start for start, end in spans):
        raise ValueError(f"each of {len(spans)} samples needs a row of text; rows end at {ends}")
    if len({end - start for start, end in spans}) == 1:
        return [(slice(len(spans)), slice(ends[-1]))]
    return [(slice(i, i + 1), slice(*span)) for i, span in enumerate(spans)]


def _of_group(given: Inputs, samples: slice, rows: slice) -> list[Tensor]:
    """Return queries, keys and values of some samples with equal lengths, ``n A L K``."""
    q = given.q_BLAK[samples]
    k, v = (x[rows].unflatten(0, (len(q), -1)) for x in (given.k_PAK, given.v_PAK))
    return [x.transpose(1, 2) for x in (q, k, v)]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def fused(kernel: Kernel, given: Inputs) -> tuple[Tensor, Tensor]:
    """Return ``B L A K`` and the log-sum-exp as the kernel keeps it.

    Fake tensors go through torch's own descriptions of the kernels. (No indexing here: torch 2.5
    then asks for the GPU of a fake tensor.)
    """
    width = given.q_BLAK.shape[-1]
    q, k, v = (_flat(x) for x in given[:3])
    limits, scale = _limits(given), 1 / math.sqrt(width)
    if kernel == "flash":
        out, lse, *_ = _aten._flash_attention_forward(
            q, k, v, *limits, 0.0, False, False, scale=scale
        )
    else:
        out, lse, *_ = _aten._efficient_attention_forward(
            *(x.unsqueeze(0) for x in (q, k, v)), None, *limits, 0.0, 0, True, scale=scale
        )
    return _like(out, given.q_BLAK), lse


def fused_backward(
    kernel: Kernel, given: Inputs, grad: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values; those of nobody's rows are not set."""
    q, k, v, grad, out = (_flat(x) for x in (*given[:3], grad, out))
    limits, scale = _limits(given), 1 / math.sqrt(given.q_BLAK.shape[-1])
    # The state of dropout's random numbers, of which there are none.
    seed, offset = (torch.zeros(2, dtype=torch.int64, device=q.device) for _ in range(2))
    if kernel == "flash":
        gradients = _aten._flash_attention_backward(
            grad, q, k, v, out, lse, *limits, 0.0, False, seed, offset, scale=scale
        )
    else:
        q, k, v, grad, out = (x.unsqueeze(0) for x in (q, k, v, grad, out))
        gradients = _aten._efficient_attention_backward(
            *(grad, q, k, v, None, out, *limits, lse, 0.0, seed, offset, 0, False), scale=scale
        )
    dq, dk, dv = (_like(x, y) for x, y in zip(gradients[:3], given[:3], strict=True))
    return dq, dk, dv


def _limits(given: Inputs) -> tuple[Tensor, Tensor, int, int]:
    """Return the offsets of queries and keys, and the most of them that a sample has."""
    batch, num_queries = given.q_BLAK.shape[:2]
    ends = torch.arange(batch + 1, dtype=torch.int32, device=given.offsets.device)
    return num_queries * ends, given.offsets, num_queries, given.max_keys


def _flat(x: Tensor) -> Tensor:
    """Return ``(tokens, A, K)`` with a width of heads that the kernels take."""
    tokens = x.flatten(0, -3)
    missing = -x.shape[-1] % _HEAD_WIDTH_MULTIPLE
    return functional.pad(tokens, (0, missing)) if missing else tokens


def _like(result: Tensor, given: Tensor) -> Tensor:
    """Undo `_flat`, in a memory order of its own."""
    surplus = result.shape[-1] - given.shape[-1]
    kept = functional.pad(result, (0, -surplus)) if surplus else result
    return kept.contiguous().view(given.shape)
