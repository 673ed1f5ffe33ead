"""AdamW, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from kinetoscope.core.errors import CorruptError
from kinetoscope.training.engine.config import OptimizerConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share a learning rate and the norm by which their gradient is clipped.

    Attributes:
        parameters: by name, unique over all groups.
        lr: None: the optimizer's.
    """

    parameters: Mapping[str, nn.Parameter]
    lr: float | None = None


def build_optimizer(groups: Sequence[ParameterGroup], config: OptimizerConfig) -> AdamW:
    """Make the optimizer; its kernels are fused on CPUs and GPUs alike.

    AdamW treats every element on its own: groups train as under one optimizer each.
    """
    return AdamW(
        [
            {
                "params": list(group.parameters.values()),
                "lr_ratio": 1.0 if group.lr is None else group.lr / config.lr,
            }
            for group in groups
            if group.parameters
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: AdamW, lr: float) -> None:
    """Set the model's learning rate; groups with one of their own keep the ratio to it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]


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
