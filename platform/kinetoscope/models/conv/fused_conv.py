"""Convolutions for autograd that keep little for the backward pass.

Group norm, activation and convolution as separate layers keep three tensors of the size of their
input. Here one function does all three and keeps the input alone; the backward pass computes norm
and activation again, which costs little beside the convolution. Gradients of gradients are not
available.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kinetoscope.models.conv.conv_ops import ConvOp
from kinetoscope.models.dtypes import as_told, autocasts, sum_dtype

Activation = Literal["silu", "relu"]


def conv(x: Tensor, layer: nn.Conv2d | nn.Conv3d, op: ConvOp) -> Tensor:
    """Convolve with a layer's parameters.

    Args:
        x: ``N D ...``, floating point; under autocast computed in its dtype.
        layer: holds weight and bias; its own geometry is not used.
        op: the geometry.
    """
    return cast(Tensor, _Conv.apply(x, layer.weight, layer.bias, op))


def norm_act_conv(
    x: Tensor,
    norm: nn.GroupNorm,
    layer: nn.Conv2d | nn.Conv3d,
    op: ConvOp,
    activation: Activation = "silu",
) -> Tensor:
    """Normalise, activate and convolve.

    Statistics are of each sample and group, over all positions (and frames, of ``B D T h w``).

    Args:
        x: ``N D ...``, floating point; under autocast the norm is computed in the dtype of its
            parameters and the convolution in autocast's.
        norm: group norm with scale and offset.
        layer: holds the convolution's weight and bias; its own geometry is not used.
        op: the geometry.
        activation: between the two.
    """
    spec = _Spec(op, activation, norm.num_groups, norm.eps)
    return cast(
        Tensor, _NormActConv.apply(x, norm.weight, norm.bias, layer.weight, layer.bias, spec)
    )


def group_norm(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Normalise ``N D ...`` in channels-last order, which the output keeps on any device."""
    if native_norm_keeps_channels_last(x.device.type):
        return cast(Tensor, norm(x))
    with as_told(x.device.type):
        high, groups = x.to(norm.weight.dtype), norm.num_groups
        return _group_norm_of_parts(high, norm.weight, norm.bias, groups, norm.eps)[0]


def add_residual(update: Tensor, x: Tensor) -> Tensor:
    """Return ``x + update``; without gradients it takes the place of ``update``."""
    return x + update if torch.is_grad_enabled() else update.add_(x)


@dataclass(frozen=True, slots=True)
class _Spec:
    op: ConvOp
    activation: Activation
    groups: int
    eps: float


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, op: ConvOp) -> Tensor:
        ctx.op, ctx.dtype = op, _conv_dtype(x)
        ctx.save_for_backward(x, weight)
        with as_told(x.device.type):
            return op.forward(_channels_last(x.to(ctx.dtype)), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        grad = _channels_last(grad.to(ctx.dtype))
        grad_x, grad_weight, grad_bias = ctx.op.backward(
            grad, _channels_last(x.to(ctx.dtype)), weight, needs
        )
        return _as(grad_x, x), _as(grad_weight, weight), _as(grad_bias, weight), None


class _NormActConv(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - autograd wants each tensor as an argument
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        spec: _Spec,
    ) -> Tensor:
        ctx.spec, ctx.dtype = spec, _conv_dtype(x)
        with as_told(x.device.type):
            normed, mean, rstd = _group_norm(_channels_last(x.to(gamma.dtype)), gamma, beta, spec)
            ctx.save_for_backward(x, gamma, beta, weight, mean, rstd)
            # The norm's output is ours alone.
            active = F.silu(normed, True) if spec.activation == "silu" else F.relu(normed, True)
            return spec.op.forward(active.to(ctx.dtype), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, weight, mean, rstd = ctx.saved_tensors
        spec: _Spec = ctx.spec
        needs_norm = any(ctx.needs_input_grad[:3])
        needs = (needs_norm, *ctx.needs_input_grad[3:5])
        high = _channels_last(x.to(sum_dtype(gamma.dtype)))
        normed = _normed(high, mean, rstd, gamma, beta)
        active = F.silu(normed) if spec.activation == "silu" else F.relu(normed)
        grad = _channels_last(grad.to(ctx.dtype))
        grad_active, grad_weight, grad_bias = spec.op.backward(
            grad, active.to(ctx.dtype), weight, needs
        )
        conv_grads = (_as(grad_weight, weight), _as(grad_bias, weight), None)
        del active, grad
        if grad_active is None:
            return (None, None, None, *conv_grads)
        grad_normed = _activation_backward(grad_active.to(high.dtype), normed, spec.activation)
        del grad_active, normed
        grads = _group_norm_backward(grad_normed, high, mean, rstd, gamma)
        return (_as(grads[0], x), _as(grads[1], gamma), _as(grads[2], beta), *conv_grads)


def _conv_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    casts = autocasts(kind) and x.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else x.dtype


def _channels_last(x: Tensor) -> Tensor:
    planes = x.dim() == 4  # noqa: PLR2004 - N D h w
    return x.contiguous(memory_format=torch.channels_last if planes else torch.channels_last_3d)


def _as(grad: Tensor | None, like: Tensor) -> Tensor | None:
    return None if grad is None else grad.to(like.dtype)


def _group_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, spec: _Spec
) -> tuple[Tensor, Tensor, Tensor]:
    if not native_norm_keeps_channels_last(x.device.type):
        return _group_norm_of_parts(x, gamma, beta, spec.groups, spec.eps)
    n, d = x.shape[:2]
    positions = x[0, 0].numel()
    # torch 2.5 refuses other strides. Later ones choose their kernel, that is how sums are rounded,
    # by the strides, which therefore stay as they are.
    plain = _usual_strides(x) if torch.__version__ < "2.6" else x
    return torch.native_group_norm(plain, gamma, beta, n, d, positions, spec.groups, spec.eps)


def native_norm_keeps_channels_last(device_type: str) -> bool:
    """Tell whether torch's group norm takes channels-last tensors as they are, and gives such.

    Off the CPU, torch 2.5 refuses them and later ones copy them to and fro.
    """
    return device_type == "cpu"


def _group_norm_of_parts(
    x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm and its statistics by operators that read channels-last tensors in place."""
    high = x.to(sum_dtype(gamma.dtype))
    grouped = high.movedim(1, -1).unflatten(-1, (groups, -1)).flatten(1, -3)
    variance, mean = torch.var_mean(grouped, dim=(1, 3), correction=0)
    rstd = torch.rsqrt(variance + eps)
    return _normed(high, mean, rstd, gamma, beta).to(gamma.dtype), mean, rstd


def _usual_strides(x: Tensor) -> Tensor:
    """Return a channels-last tensor's view whose axes of length 1 have their usual strides."""
    if x.is_contiguous():
        return x
    usual = _channels_last(torch.empty(x.shape, device="meta")).stride()
    return x.as_strided(x.shape, usual)


def _normed(x: Tensor, mean: Tensor, rstd: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return the norm's output from the statistics ``N G``."""
    mean_ND, rstd_ND = _of_channels(mean, x), _of_channels(rstd, x)
    scale = rstd_ND * gamma.to(x.dtype)
    return torch.addcmul(_wide(beta.to(x.dtype) - mean_ND * scale, x), x, _wide(scale, x))


def _activation_backward(grad: Tensor, normed: Tensor, activation: Activation) -> Tensor:
    if activation == "silu":
        torch.ops.aten.silu_backward.grad_input(grad, normed, grad_input=grad)
        return grad
    return grad.masked_fill_(normed <= 0, 0)


def _group_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, scale and offset.

    Several times as fast as torch's own for channels-last tensors on CPU. With ``m`` and ``r`` the
    statistics of a group of ``M`` elements and ``y = (x - m) r gamma + beta``::

        dx = r gamma dy + x a - m a - r mean(gamma dy)
        a  = r^3 (m sum(gamma dy) - sum(gamma x dy)) / M
    """
    n, groups = mean.shape
    size = x[0].numel() // groups
    sum_ND, sum_x_ND = _over_positions(grad), _over_positions(grad * x)
    mean, rstd = mean.to(x.dtype), rstd.to(x.dtype)
    mean_ND, rstd_ND = _of_channels(mean, x), _of_channels(rstd, x)
    scale_ND = gamma.to(x.dtype)
    sum_NG = (sum_ND * scale_ND).view(n, groups, -1).sum(2)
    sum_x_NG = (sum_x_ND * scale_ND).view(n, groups, -1).sum(2)
    slope = rstd.pow(3) * (mean * sum_NG - sum_x_NG) / size
    offset = -mean * slope - rstd * sum_NG / size
    grad_x = torch.addcmul(_wide(_of_channels(offset, x), x), x, _wide(_of_channels(slope, x), x))
    grad_x.addcmul_(grad, _wide(rstd_ND * scale_ND, x))
    grad_gamma = ((sum_x_ND - mean_ND * sum_ND) * rstd_ND).sum(0)
    return grad_x, grad_gamma, sum_ND.sum(0)


def _over_positions(x: Tensor) -> Tensor:
    """Return the sums ``N D`` over positions."""
    rows = x.movedim(1, -1).flatten(1, -2)
    if not products_sum_exactly(x.device.type):
        return rows.sum(1)
    return (rows.new_ones(1, rows.shape[1]) @ rows)[:, 0]


def products_sum_exactly(device_type: str) -> bool:
    """Tell whether a product with ones is a sum, and the faster one.

    A GPU may round what it multiplies to TF32.
    """
    return device_type == "cpu"


def _of_channels(x_NG: Tensor, like: Tensor) -> Tensor:
    """Return each channel's entry ``N D`` of its group."""
    return x_NG.to(like.dtype).repeat_interleave(like.shape[1] // x_NG.shape[1], 1)


def _wide(x_ND: Tensor, like: Tensor) -> Tensor:
    return x_ND.reshape(*x_ND.shape, *(1,) * (like.dim() - 2))
