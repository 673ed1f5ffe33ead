"""What CUDA's autocast does and the CPU's does not.

A step is traced on CPU tensors under the CPU's autocast, which casts the operands of products and
attention as CUDA's does and keeps the casts of weights in the same cache. CUDA's has three more
lists, copied here from torch's ``ATen/autocast_mode.h`` (``AT_FORALL_FP32``,
``AT_FORALL_FP32_SET_OPT_DTYPE`` and ``AT_FORALL_PROMOTE``; in words:
https://pytorch.org/docs/stable/amp.html). Left out is ``norm``, which has a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.library import Library


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FLOAT32 = _names("""
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
    pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm
    frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss
    cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss
    huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss
    triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm
    logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d
    _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d
    _upsample_bicubic2d_aa
""")
"""Arguments are cast to float32."""

FLOAT32_RESULT = _names("""
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
""")
"""Arguments are read as they are; sums and results are float32."""

WIDEST = _names("""
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
""")
"""Arguments are cast to the widest type among them."""

_LOW = (torch.bfloat16, torch.float16)
_KEY = torch._C.DispatchKey.AutocastCPU


@contextmanager
def casts_of_cuda() -> Iterator[None]:
    """Let the CPU's autocast cast as CUDA's does, for the whole process, inside the context."""
    library = Library("aten", "IMPL")
    rules = ((FLOAT32, _float32), (FLOAT32_RESULT, _float32_result), (WIDEST, _widest))
    try:
        for names, rule in rules:
            for name in names:
                if (operator := _operator(name)) is not None:
                    library.impl(name, partial(rule, operator), "AutocastCPU", allow_override=True)
        yield
    finally:
        library._destroy()


def _operator(name: str) -> OpOverload | None:
    """Return an operator; None where this version of torch has none of the name."""
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base, None)
    operator: OpOverload | None = getattr(packet, overload or "default", None)
    return operator


def _float32(operator: OpOverload, *args: Any, **options: Any) -> Any:
    return _without_autocast(operator, _widened(args), _widened(options))


def _float32_result(operator: OpOverload, *args: Any, **options: Any) -> Any:
    if _is_low(args[0]) and options.get("dtype") is None:
        options = {**options, "dtype": torch.float32}
    return _without_autocast(operator, args, options)


def _widest(operator: OpOverload, *args: Any, **options: Any) -> Any:
    floats = [x for x in args if isinstance(x, Tensor) and x.is_floating_point()]
    if any(not _is_low(x) for x in floats):
        args, options = _widened(args), _widened(options)
    return _without_autocast(operator, args, options)


def _without_autocast(operator: Callable[..., Any], args: Any, options: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_KEY)):
        return operator(*args, **options)


def _widened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_widened(item) for item in value)
    if isinstance(value, dict):
        return {name: _widened(item) for name, item in value.items()}
    return value.float() if _is_low(value) else value


def _is_low(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype in _LOW
