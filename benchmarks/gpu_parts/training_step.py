"""An optimizer step as the trainer does it, of one micro-batch, through the engine."""

from __future__ import annotations

import torch
from gpu_parts.measure import Bench
from gpu_parts.sizes import EMA_DECAY, GRAD_CLIP, OPTIMIZER
from torch import Tensor

from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.ema import EMA
from kinetoscope.training.loop.outcome import OutcomeSum, StepOutcome


class TrainingStep:
    """Runs steps of one objective on the same batch.

    Args:
        bench: where.
        objective: what is trained; its model is on the device.
        tensors: the batch, on the CPU as the loader leaves it.
        ema: whether the weights are averaged, too.
    """

    def __init__(
        self, bench: Bench, objective: Objective, tensors: dict[str, Tensor], *, ema: bool
    ) -> None:
        self._tensors = {
            name: tensor.pin_memory() if bench.on_gpu else tensor
            for name, tensor in tensors.items()
        }
        self._batch = len(next(iter(tensors.values())))
        self._parts = objective.parts
        self.engine = TorchDDPEngine(ALONE, dtype="bf16")
        self.engine.prepare(objective, OPTIMIZER)
        self._ema = EMA(objective.model, EMA_DECAY) if ema else None

    def __call__(self) -> StepOutcome:
        """Do a whole step."""
        sums = self.new_sums()
        self.micro_batch(sums, last=True)
        return self.update(sums)

    def new_sums(self) -> OutcomeSum:
        """Return where a step's figures are gathered."""
        return OutcomeSum(self._parts, self.engine.device)

    def micro_batch(self, sums: OutcomeSum, *, last: bool) -> None:
        """Add the gradient of the batch."""
        values = self.engine.forward_backward(self._tensors, scale=1 / self._batch, last=last)
        sums.add(values, num_tokens=0)

    def update(self, sums: OutcomeSum) -> StepOutcome:
        """Read what the step came to, and change the weights."""
        norm = self.engine.clip_gradients(GRAD_CLIP)
        outcome = sums.over_ranks(self.engine, grad_norm=norm, stop=False)
        self.engine.step(OPTIMIZER.lr)
        if self._ema is not None:
            self._ema.update()
        return outcome


def generator() -> torch.Generator:
    """Return the source of all random batches."""
    return torch.Generator().manual_seed(0)
