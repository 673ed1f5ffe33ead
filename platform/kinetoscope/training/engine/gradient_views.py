"""Gradients accumulate where they will be summed over ranks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class GradientViews:
    """Keeps gradients in DDP's buckets from a step's first micro-batch on.

    A gradient that was dropped comes back as a tensor of its own, which DDP moves into its bucket
    at the step's last backward pass: until then a rank with several micro-batches would hold all
    gradients twice. Gradients that stayed, as zeros, would update what a step does not use.

    Args:
        parameters: that are trained; each has its view of a bucket as gradient now, which is
            noted and dropped.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._views: dict[Tensor, Tensor] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            self._views[parameter] = parameter.grad
            parameter.grad = None
            parameter.register_post_accumulate_grad_hook(self._move)

    def _move(self, parameter: Tensor) -> None:
        view, grad = self._views[parameter], parameter.grad
        if grad is not None and grad.data_ptr() != view.data_ptr():
            view.copy_(grad)
            parameter.grad = view
