"""Stand-ins on the CPU for the fused attention kernels that torch has for GPUs alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor


@contextmanager
def gpu_kernels_on_the_cpu() -> Iterator[StandIn]:
    """Let aten's flash and efficient attention compute on the CPU for a while."""
    library = torch.library.Library("aten", "IMPL", "CPU")
    try:
        yield StandIn(library)
    finally:
        library._destroy()


def spelled_out(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Return attention of ``q (B, L, A, K)`` over the rows of each sample, as the maths says."""
    attended = []
    for own_q, (start, end) in zip(q, pairwise(offsets.tolist()), strict=True):
        scores = torch.einsum("LAK,SAK->ALS", own_q, k[start:end]) / math.sqrt(q.shape[-1])
        attended.append(torch.einsum("ALS,SAK->LAK", scores.softmax(-1), v[start:end]))
    return torch.stack(attended)


def _differentiated(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    weights = (scale * torch.einsum("LAK,SAK->ALS", q, k)).softmax(-1)
    towards = torch.einsum("LAK,SAK->ALS", grad, v)
    scores = scale * weights * (towards - (towards * weights).sum(-1, keepdim=True))
    return (
        torch.einsum("ALS,SAK->LAK", scores, k),
        torch.einsum("ALS,LAK->SAK", scores, q),
        torch.einsum("ALS,LAK->SAK", weights, grad),
    )


class StandIn:
    """Computes on the CPU what aten's two GPU kernels promise, and no more.

    Rows that are nobody's get nan for a gradient: the kernels don't write there.
    """

    def __init__(self, library: torch.library.Library) -> None:
        self.calls: list[str] = []
        for name in ("flash", "efficient"):
            for direction in ("forward", "backward"):
                operator = f"_{name}_attention_{direction}"
                library.impl(operator, getattr(self, f"{name}_{direction}"))

    def flash_forward(
        self, q: Tensor, k: Tensor, v: Tensor, *limits: object, **options: float
    ) -> tuple[Tensor, ...]:
        self.calls.append("flash forward")
        assert limits[4:] == (0.0, False, False)
        out = self._attend(q, k, v, limits, options["scale"])
        return out, *(torch.zeros(1) for _ in range(4))

    def flash_backward(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,  # noqa: ARG002 - aten's
        *limits: object,
        **options: float,
    ) -> tuple[Tensor, ...]:
        self.calls.append("flash backward")
        assert limits[4:6] == (0.0, False)
        return self._differentiate(grad, (q, k, v), out, limits, options["scale"])

    def efficient_forward(
        self, q: Tensor, k: Tensor, v: Tensor, bias: None, *limits: object, **options: float
    ) -> tuple[object, ...]:
        self.calls.append("efficient forward")
        assert (bias, *limits[4:]) == (None, 0.0, 0, True)
        out = self._attend(q[0], k[0], v[0], limits, options["scale"])
        return out[None], *(torch.zeros(1) for _ in range(3)), limits[2], limits[3]

    def efficient_backward(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: None,
        out: Tensor,
        *limits: object,
        **options: float,
    ) -> tuple[Tensor, ...]:
        self.calls.append("efficient backward")
        assert bias is None
        assert (limits[5], *limits[8:]) == (0.0, 0, False)
        found = self._differentiate(grad[0], (q[0], k[0], v[0]), out[0], limits, options["scale"])
        return *(x[None] for x in found), torch.zeros(1)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, limits: tuple[object, ...], scale: float
    ) -> Tensor:
        starts, offsets, num_queries, max_keys = limits[:4]
        assert isinstance(starts, Tensor)
        assert isinstance(offsets, Tensor)
        assert isinstance(max_keys, int)
        assert starts.dtype is offsets.dtype is torch.int32
        assert starts.diff().unique().tolist() == [num_queries]
        assert 0 < offsets.diff().min() <= offsets.diff().max() <= max_keys
        assert q.shape[-1] % 8 == k.shape[-1] % 8 == v.shape[-1] % 8 == 0
        queries = q.unflatten(0, (len(starts) - 1, -1))
        return spelled_out(queries * scale * math.sqrt(q.shape[-1]), k, v, offsets).flatten(0, 1)

    def _differentiate(
        self,
        grad: Tensor,
        qkv: tuple[Tensor, Tensor, Tensor],
        out: Tensor,
        limits: tuple[object, ...],
        scale: float,
    ) -> tuple[Tensor, ...]:
        torch.testing.assert_close(self._attend(*qkv, limits, scale), out)
        offsets = limits[1]
        assert isinstance(offsets, Tensor)
        # Autograd does not reach below the operator.
        gradients = [torch.full_like(x, torch.nan) for x in qkv]
        num_queries = len(qkv[0]) // (len(offsets) - 1)
        for sample, span in enumerate(pairwise(offsets.tolist())):
            rows, queries = slice(*span), slice(sample * num_queries, (sample + 1) * num_queries)
            own = qkv[0][queries], qkv[1][rows], qkv[2][rows]
            found = _differentiated(grad[queries], *own, scale)
            for gradient, part, x in zip(gradients, (queries, rows, rows), found, strict=True):
                gradient[part] = x
        return tuple(gradients)
