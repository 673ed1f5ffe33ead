"""What a training step hands to the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from kinetoscope.data.plan.batch_plan import MicroBatch, Step
from kinetoscope.training.engine.base import Objective


@dataclass(frozen=True, slots=True)
class Batch:
    """What a rank computes on at once.

    Attributes:
        tensors: by the name that the objective knows; pixels as an engine takes them, in uint8.
        num_samples: clips or frames in it.
        num_tokens: positions that the model attends to; 0 where the model has none.
    """

    tensors: dict[str, Tensor]
    num_samples: int
    num_tokens: int = 0


class Plan(Protocol):
    """A global plan of optimizer steps."""

    def steps_from(self, epoch: int = 0, step: int = 0) -> Iterator[tuple[int, int, Step]]:
        """Yield (epoch, step in the epoch, step) from a position on, for ever."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """One training step's work.

    Attributes:
        objective: the model and its losses.
        plan: the samples of every optimizer step.
        load: makes a batch of an epoch's micro-batch; a pure function of both and the seed, called
            in the loading thread.
    """

    objective: Objective
    plan: Plan
    load: Callable[[int, MicroBatch], Batch]
