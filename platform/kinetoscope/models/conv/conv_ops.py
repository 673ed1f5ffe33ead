"""The convolutions of the VAEs as pure functions, forward and backward.

Each is written in terms of 2D convolutions over frames in channels-last order, in which CPU and GPU
libraries are fastest. `fused_conv` gives them to autograd. Shapes: ``N`` frames,
``D`` input and ``O`` output channels, ``h w`` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from kinetoscope.models.conv.causal_taps import Tap, causal_taps
from kinetoscope.models.dtypes import sum_dtype, widened

Grads = tuple[Tensor | None, Tensor | None, Tensor | None]
Needs = tuple[bool, bool, bool]
Triple = tuple[int, int, int]

_LOW_PRECISION = (torch.bfloat16, torch.float16)


class ConvOp(Protocol):
    """A convolution without parameters of its own; computes in the dtype of ``x``."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution."""

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Grads:
        """Return the gradients of input, weight and bias; None where ``needs`` is false."""


@dataclass(frozen=True, slots=True)
class FrameConv:
    """A 2D convolution, zero-padded by half the kernel or, with a stride, behind only.

    Attributes:
        stride: along height and width. 1: ``N D h w`` -> ``N O h w``; 2: one row and column of
            zeros go behind, as in diffusers' ``AutoencoderKL``, and sizes are halved.
    """

    stride: int = 1

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``N O h' w'``."""
        x, padding = self._padded(x, weight)
        bias = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, _kernel(weight, x.dtype), bias, self.stride, padding)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Grads:
        """Return the gradients of input, weight and bias."""
        h, w = x.shape[2:]
        x, padding = self._padded(x, weight)
        grad_x, grad_weight, grad_bias = _conv_backward(
            grad, x, _kernel(weight, x.dtype), needs, stride=self.stride, padding=padding
        )
        if grad_x is not None:
            # One copy here, or one in each function that gets the gradient.
            grad_x = grad_x[:, :, :h, :w].contiguous(memory_format=torch.channels_last)
        return grad_x, grad_weight, grad_bias

    def _padded(self, x: Tensor, weight: Tensor) -> tuple[Tensor, int]:
        return (x, weight.shape[-1] // 2) if self.stride == 1 else (F.pad(x, (0, 1, 0, 1)), 0)


@dataclass(frozen=True, slots=True)
class UpsampleConv:
    """A 3x3 convolution of what nearest-neighbour upsampling by 2 would give.

    The upsampled frame is never made: an output position of given parity (odd or even row and
    column) sees 2 x 2 input positions only, with sums of the kernel's rows and columns as weights.
    So 16 products per input position do the work of 36.
    """

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``N O 2h 2w`` of ``N D h w``."""
        h, w = x.shape[2:]
        kernels = _parity_kernels(weight, x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
        shape = (x.shape[0], weight.shape[0], 2 * h, 2 * w)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for row, column in _PARITIES:
            part = F.conv2d(x, kernels[row, column], bias, padding=1)
            out[:, :, row::2, column::2] = part[:, :, row : row + h, column : column + w]
        return out

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Grads:
        """Return the gradients of input, weight and bias."""
        kernels = _parity_kernels(weight, x.dtype)
        # Sums of several products each, which are rounded once, when they are whole.
        wide = sum_dtype(x.dtype)
        grad_x = torch.zeros_like(x, dtype=wide) if needs[0] else None
        grad_kernels = torch.zeros_like(kernels, dtype=wide) if needs[1] else None
        for row, column in _PARITIES:
            part = grad[:, :, row::2, column::2]
            part = F.pad(part, (column, 1 - column, row, 1 - row))
            piece_x, piece_kernel, _ = _conv_backward(
                part, x, kernels[row, column], (needs[0], needs[1], False), padding=1
            )
            if grad_x is not None and piece_x is not None:
                grad_x += piece_x
            if grad_kernels is not None and piece_kernel is not None:
                grad_kernels[row, column] = piece_kernel
        grad_weight = None if grad_kernels is None else _parity_kernels_backward(grad_kernels)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if needs[2] else None


@dataclass(frozen=True, slots=True)
class CausalConv:
    """A cubic 3D convolution that looks only back in time, ``B D T h w`` -> ``B O T' h w``.

    It is the sum over the kernel's time steps (taps) of 2D convolutions of shifted frames. So the
    zero frames that go in front of time are neither made nor convolved: one frame takes a third of
    the work, 17 frames 6 % less.

    Attributes:
        stride_t: stride along time; ``kernel - stride_t`` zero frames go in front.
    """

    stride_t: int = 1

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``B O T/stride_t h w``."""
        bias = None if bias is None else bias.to(x.dtype)
        taps = causal_taps(x.shape[2], weight.shape[2], self.stride_t)
        if self._in_one(x, taps):
            stride, padding = self._layout(weight)
            kernel = _kernel(weight, x.dtype)
            return F.conv3d(self._padded(x, weight), kernel, bias, stride, padding)
        kernels = _tap_kernels(weight, x.dtype)
        side, batch = weight.shape[-1] // 2, x.shape[0]
        out: Tensor | None = None
        for tap in taps:
            y = F.conv2d(_frames(x[:, :, tap.inputs]), kernels[tap.index], bias, 1, side)
            part = rearrange(y, "(B T) O h w -> B O T h w", B=batch)
            if out is None:
                out, bias = part, None
            else:
                out[:, :, tap.outputs] += part
        assert out is not None
        return out

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, needs: Needs) -> Grads:
        """Return the gradients of input, weight and bias."""
        taps = causal_taps(x.shape[2], weight.shape[2], self.stride_t)
        if self._in_one(x, taps):
            padded = self._padded(x, weight)
            stride, around = self._layout(weight)
            kernel = _kernel(weight, x.dtype)
            grads = _conv_backward(grad, padded, kernel, needs, stride=stride, padding=around)
            front = padded.shape[2] - x.shape[2]
            return (None if grads[0] is None else grads[0][:, :, front:]), grads[1], grads[2]
        kernels = _tap_kernels(weight, x.dtype)
        grad_x = torch.zeros_like(x) if needs[0] else None
        grad_weight = torch.zeros_like(weight, dtype=x.dtype) if needs[1] else None
        for tap in taps:
            piece_x, piece_weight, _ = _conv_backward(
                _frames(grad[:, :, tap.outputs]),
                _frames(x[:, :, tap.inputs]),
                kernels[tap.index],
                (needs[0], needs[1], False),
                padding=weight.shape[-1] // 2,
            )
            if grad_x is not None and piece_x is not None:
                grad_x[:, :, tap.inputs] += rearrange(
                    piece_x, "(B T) D h w -> B D T h w", B=x.shape[0]
                )
            if grad_weight is not None and piece_weight is not None:
                grad_weight[:, :, tap.index] = piece_weight
        return grad_x, grad_weight, grad.sum((0, 2, 3, 4)) if needs[2] else None

    @staticmethod
    def _in_one(x: Tensor, taps: Sequence[Tap]) -> bool:
        """Tell whether a sum of taps would round too often."""
        return x.dtype in _LOW_PRECISION and len(taps) > 1

    def _padded(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, weight.shape[2] - self.stride_t, 0))

    def _layout(self, weight: Tensor) -> tuple[Triple, Triple]:
        side = weight.shape[-1] // 2
        return (self.stride_t, 1, 1), (0, side, side)


_PARITIES = ((0, 0), (0, 1), (1, 0), (1, 1))


def _parity_kernels(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the kernels ``2 2 O D 2 2`` of each output parity (row, column), channels-last."""
    wide = widened(weight)
    kernels = _seen_sums(_seen_sums(wide, -1), -2).to(dtype)
    return rearrange(
        rearrange(kernels, "a b O D p q -> a b O p q D").contiguous(), "a b O p q D -> a b O D p q"
    )


def _parity_kernels_backward(grad: Tensor) -> Tensor:
    """Return the gradient ``O D 3 3`` of the weight."""
    return _seen_sums_backward(_seen_sums_backward(grad, -2), -1)


def _seen_sums(x: Tensor, dim: int) -> Tensor:
    """Return ``2 ...``: what the two inputs meet that an even, that an odd output sees.

    Of the kernel's three entries along ``dim`` the even output's inputs meet the first and the sum
    of the others, the odd one's the sum of the first two and the last.
    """
    first, middle, last = x.unbind(dim)
    even = torch.stack((first, middle + last), dim)
    odd = torch.stack((first + middle, last), dim)
    return torch.stack((even, odd))


def _seen_sums_backward(grad: Tensor, dim: int) -> Tensor:
    (first, others), (others_odd, last) = (part.unbind(dim) for part in grad)
    return torch.stack((first + others_odd, others + others_odd, others + last), dim)


def _kernel(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight for one convolution: in its dtype, in channels-last order."""
    planes = weight.dim() == 4  # noqa: PLR2004 - O D h w
    order = torch.channels_last if planes else torch.channels_last_3d
    return weight.to(dtype, memory_format=order)


def _tap_kernels(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the 2D kernels ``O D h w`` of the taps, each in channels-last order."""
    # All in one copy: slices of a channels-last weight would be copied once more, one by one.
    taps = rearrange(weight.to(dtype), "O D t h w -> t O h w D").contiguous()
    return rearrange(taps, "t O h w D -> t O D h w").unbind()


def _frames(x_BDThw: Tensor) -> Tensor:
    """Return channels-last frames ``N D h w``; no copy is made of one clip's consecutive frames."""
    clips = x_BDThw.contiguous(memory_format=torch.channels_last_3d)
    return rearrange(clips, "B D T h w -> (B T) D h w")


def _conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    needs: Needs,
    *,
    padding: int | tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
) -> Grads:
    num = x.dim() - 2
    strides = [stride] * num if isinstance(stride, int) else list(stride)
    paddings = [padding] * num if isinstance(padding, int) else list(padding)
    grads: Grads = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        [weight.shape[0]],
        strides,
        paddings,
        [1] * num,
        False,
        [0] * num,
        1,
        list(needs),
    )
    return grads
