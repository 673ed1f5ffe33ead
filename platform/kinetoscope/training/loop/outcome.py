"""What one optimizer step came to, summed over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinetoscope.training.engine.base import Engine


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The figures that every rank agrees on.

    Attributes:
        loss: mean over the step's samples.
        parts: mean of each further value over the samples that have it.
        num_samples: of all ranks.
        num_tokens: of all ranks.
        stop: some rank was told to stop.
        rank_imbalance: computing time of the slowest share over the mean; None where it was not
            measured, or there is but one.
    """

    loss: float
    parts: dict[str, float]
    num_samples: int
    num_tokens: int
    stop: bool
    rank_imbalance: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether training may go on."""
        return math.isfinite(self.loss)


class OutcomeSum:
    """Gathers this rank's share of a step, then adds up all ranks' in one small all-reduce.

    Args:
        parts: names that batches may have values for.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._names = ("loss", *parts)
        self._sums: dict[str, list[Tensor]] = {name: [] for name in self._names}
        self._num_tokens = 0

    def add(self, values: dict[str, Tensor], num_tokens: int) -> None:
        """Add a micro-batch's per-sample values."""
        for name, value in values.items():
            self._sums[name].append(value)
        self._num_tokens += num_tokens

    def over_ranks(
        self, engine: Engine, *, stop: bool, compute_seconds: float = 0.0
    ) -> StepOutcome:
        """Return the step's figures, the same on every rank.

        Args:
            engine: of this rank.
            stop: this rank was told to stop.
            compute_seconds: what this rank computed without waiting for others.
        """
        row = [float(stop), float(self._num_tokens)]
        for name in self._names:
            row.append(sum(float(value.double().sum()) for value in self._sums[name]))
            row.append(float(sum(len(value) for value in self._sums[name])))
        num_figures = len(row)
        shares = [0.0] * engine.data_size
        shares[engine.data_rank] = compute_seconds
        both = torch.tensor([*row, *shares], dtype=torch.float64)
        summed: list[float] = engine.sum_over_ranks(both).tolist()
        total, shares = summed[:num_figures], summed[num_figures:]
        pairs = dict(zip(self._names, zip(total[2::2], total[3::2], strict=True), strict=True))
        means = {name: value / count for name, (value, count) in pairs.items() if count}
        return StepOutcome(
            loss=means.pop("loss"),
            parts=means,
            num_samples=int(pairs["loss"][1]),
            num_tokens=int(total[1]),
            stop=total[0] > 0,
            rank_imbalance=imbalance(shares),
        )


def imbalance(seconds: Sequence[float]) -> float | None:
    """Return the greatest over the mean; None where there is no mean or nobody to compare with."""
    if len(seconds) == 1 or not sum(seconds):
        return None
    return max(seconds) * len(seconds) / sum(seconds)
