"""AdamW, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from kinetoscope.core.errors import CorruptError
from kinetoscope.training.config import OptimizerConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> AdamW:
    """Make the optimizer; its kernels are fused on CPUs and GPUs alike."""
    return AdamW(
        list(parameters),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def export_optimizer(optimizer: AdamW, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return ``NAME.exp_avg``, ``NAME.exp_avg_sq`` and ``NAME.step`` of each updated parameter."""
    return {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for key in (*_MOMENTS, "step")
    }


def import_optimizer(
    optimizer: AdamW, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Load exported state; a parameter that was never updated has none.

    Raises:
        CorruptError: a tensor belongs to no parameter.
    """
    known = {f"{name}.{key}" for name in parameters for key in (*_MOMENTS, "step")}
    if unknown := sorted(tensors.keys() - known):
        raise CorruptError(f"optimizer state of no trained parameter: {unknown[:5]}")
    optimizer.state.clear()
    for name, parameter in parameters.items():
        if f"{name}.step" in tensors:
            # Moments keep the parameter's own memory format, on which the fused kernel relies.
            moments = {
                key: torch.zeros_like(parameter, requires_grad=False).copy_(
                    tensors[f"{name}.{key}"]
                )
                for key in _MOMENTS
            }
            step = tensors[f"{name}.step"].to(parameter.device, torch.float32).clone()
            optimizer.state[parameter] = {"step": step.reshape(()), **moments}
