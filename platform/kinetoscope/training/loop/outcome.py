"""What one optimizer step came to, summed over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from kinetoscope.training.engine.base import Engine


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The figures that every rank agrees on.

    Attributes:
        loss: mean over the step's samples.
        grad_norm: of the gradient before it was clipped.
        parts: mean of each further value over the samples that have it.
        num_samples: of all ranks.
        num_tokens: of all ranks.
        stop: some rank was told to stop.
        rank_imbalance: computing time of the slowest share over the mean; None where it was not
            measured, or there is but one.
    """

    loss: float
    grad_norm: float
    parts: dict[str, float]
    num_samples: int
    num_tokens: int
    stop: bool
    rank_imbalance: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether training may go on."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class OutcomeSum:
    """Gathers this rank's share of a step, then adds up all ranks' in one small all-reduce.

    The sums stay on the device: that all is read at once, when the step's work is queued, is the
    only time that a step makes this process wait for a GPU.

    Args:
        parts: names that batches may have values for.
        device: where the values are.
    """

    def __init__(self, parts: Sequence[str], device: torch.device) -> None:
        self._names = ("loss", *parts)
        self._sums = torch.zeros(len(self._names), dtype=torch.float64, device=device)
        self._counts = dict.fromkeys(self._names, 0)
        self._num_tokens = 0

    def add(self, values: dict[str, Tensor], num_tokens: int) -> None:
        """Add a micro-batch's per-sample values."""
        for name, value in values.items():
            self._sums[self._names.index(name)] += value.double().sum()
            self._counts[name] += len(value)
        self._num_tokens += num_tokens

    def over_ranks(
        self, engine: Engine, *, grad_norm: Tensor, stop: bool, compute_seconds: float = 0.0
    ) -> StepOutcome:
        """Return the step's figures, the same on every rank.

        Args:
            engine: of this rank.
            grad_norm: what the engine's ``clip_gradients`` returned.
            stop: this rank was told to stop.
            compute_seconds: what this rank computed without waiting for others.
        """
        shares = [0.0] * engine.data_size
        shares[engine.data_rank] = compute_seconds
        row = [float(stop), float(self._num_tokens), *map(float, self._counts.values()), *shares]
        told = torch.tensor(row, dtype=torch.float64).to(engine.device, non_blocking=True)
        total = engine.sum_over_ranks(torch.cat([told, self._sums]))
        figures = iter(torch.cat([total, grad_norm.double().reshape(1)]).tolist())
        stops, tokens, *counts = islice(figures, 2 + len(self._names))
        shares, sums = list(islice(figures, len(shares))), list(islice(figures, len(self._names)))
        means = {
            name: value / count
            for name, value, count in zip(self._names, sums, counts, strict=True)
            if count
        }
        return StepOutcome(
            loss=means.pop("loss"),
            grad_norm=next(figures),
            parts=means,
            num_samples=int(counts[0]),
            num_tokens=int(tokens),
            stop=stops > 0,
            rank_imbalance=imbalance(shares),
        )


def imbalance(seconds: Sequence[float]) -> float | None:
    """Return the greatest over the mean; None where there is no mean or nobody to compare with."""
    if len(seconds) == 1 or not sum(seconds):
        return None
    return max(seconds) * len(seconds) / sum(seconds)
