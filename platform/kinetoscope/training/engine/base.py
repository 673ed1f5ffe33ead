"""The seam between the training loop and what spreads it over processes and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from kinetoscope.core.errors import ConfigError
from kinetoscope.training.engine.config import OptimizerConfig

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Companion:
    """A module that is trained beside the model and is no part of it, e.g. a discriminator.

    Its parameters have their own share of ``loss`` and a gradient norm of their own.

    Attributes:
        module: below the objective.
        lr: learning rate where the model's would be the optimizer's; it follows the same schedule.
            None: the model's.
    """

    module: nn.Module
    lr: float | None = None


class Objective(nn.Module):
    """A model together with its losses: what an engine differentiates.

    Subclasses hold the trained model as ``model`` (its names are the checkpoint's) and map the
    tensors of a batch to per-sample values, each of shape ``B``; ``loss`` is what is minimised.
    """

    model: nn.Module
    parts: tuple[str, ...] = ()
    """Names that ``forward`` may return beside ``loss``."""
    step: int = 0
    """Optimizer steps done; the trainer sets it before every step."""

    def parallelise(self, group: ProcessGroup) -> None:
        """Share the patches of each sample among the ranks of a group.

        Raises:
            ConfigError: the model can't.
        """
        raise ConfigError(
            f"{type(self.model).__name__} can't share a sample among {group.size()} ranks",
            hint="set sequence_parallel to 1",
        )

    def companions(self) -> dict[str, Companion]:
        """Return what else is trained, by the name of its group in checkpoints."""
        return {}

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return per-sample values of one batch."""
        raise NotImplementedError


class Engine(Protocol):
    """Data-parallel training of one objective.

    The ranks of a step each run their micro-batches through ``forward_backward``; after the last
    one every rank holds the same summed gradient. Weights, optimizer state and all that is exported
    are fp32 tensors by parameter name, whatever the engine does with them inside.

    What is called by all ranks at once raises ``LostPeerError`` where one of them has gone.

    Attributes:
        device: where this rank computes.
        data_rank: which share of a step this rank computes; ranks that share the patches of their
            samples (sequence parallelism) have the same.
        data_size: how many shares a step has.
    """

    device: torch.device
    data_rank: int
    data_size: int

    def prepare(self, objective: Objective, optimizer: OptimizerConfig) -> None:
        """Take over the objective (moved to the device) and make its optimizer."""
        ...

    def forward_backward(self, tensors: Tensors, *, scale: float, last: bool) -> dict[str, Tensor]:
        """Run one micro-batch and add its gradient.

        Args:
            tensors: the batch, on any device; the objective gets them on its own, as they are. Of
                levels of pixels it makes floats itself (`training.engine.transfer.pixels_in`).
            scale: weight of each of its samples in the step's loss.
            last: whether it is this rank's last of the step, after which gradients are summed.

        Returns:
            The objective's per-sample values, detached.
        """
        ...

    def clip_gradients(self, max_norm: float | None) -> Tensor:
        """Return the gradient's norm; scale the gradient down when it exceeds ``max_norm``.

        The model and each companion are scaled by their own norms; the returned one is of all. It
        stays on the device, without a shape, so that nothing waits for the backward pass.
        """
        ...

    def step(self, lr: float) -> None:
        """Update the weights at the model's learning rate, and drop the gradient."""
        ...

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over the shares of a step, on every rank.

        Of ranks that have the same share, the mean counts. The sum is on the device, wherever the
        values are, and not waited for.
        """
        ...

    def gather_text(self, text: str) -> list[str]:
        """Return what every rank says, by rank, on every rank."""
        ...

    def export_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dicts of the model (``weights``) and companions, and ``optimizer``."""
        ...

    def import_state(self, groups: Mapping[str, Tensors]) -> None:
        """Load what ``export_state`` returned; names must agree exactly."""
        ...

    def barrier(self) -> None:
        """Wait for all ranks."""
        ...

    def close(self) -> None:
        """Leave the process group."""
        ...
