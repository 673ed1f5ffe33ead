"""How training goes on when the cached draws of a plan are used up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kinetoscope.core.keys import generator
from kinetoscope.data.plan.batch_plan import BatchPlan, MicroBatch, PlanItem, Step
from kinetoscope.data.plan.buckets import Bucket


class CyclingPlan:
    """Cycles through the first epochs of a plan, the draws that were encoded.

    Each further pass over a draw has its samples in new company: they are shuffled within their
    bucket, so that every step keeps its shape and cost.

    Args:
        plan: whose first epochs are in the cache.
        num_draws: how many are.
        seed: of the run.
    """

    def __init__(self, plan: BatchPlan, *, num_draws: int, seed: int) -> None:
        self._plan = plan
        self._num_draws = num_draws
        self._seed = seed

    def steps_from(self, epoch: int = 0, step: int = 0) -> Iterator[tuple[int, int, Step]]:
        """Yield (epoch, step in the epoch, step) from a position on, for ever."""
        while True:
            steps = self.epoch(epoch)
            for number in range(step, len(steps)):
                yield epoch, number, steps[number]
            epoch, step = epoch + 1, 0

    def epoch(self, epoch: int) -> Sequence[Step]:
        """Return the steps of an epoch."""
        draw = self._plan.epoch(epoch % self._num_draws)
        if epoch < self._num_draws:
            return draw
        return _shuffled(list(draw), (self._seed, epoch))


def _shuffled(steps: Sequence[Step], key: tuple[int, int]) -> list[Step]:
    pools: dict[Bucket, list[PlanItem]] = defaultdict(list)
    for step in steps:
        for batch in step.micro_batches:
            pools[batch.bucket].extend(batch.items)
    shuffled = {
        bucket: iter([items[i] for i in _order(len(items), bucket, key)])
        for bucket, items in pools.items()
    }
    return [
        Step(
            tuple(
                MicroBatch(batch.bucket, tuple(next(shuffled[batch.bucket]) for _ in batch.items))
                for batch in step.micro_batches
            )
        )
        for step in steps
    ]


def _order(count: int, bucket: Bucket, key: tuple[int, int]) -> list[int]:
    name = (bucket.resolution, bucket.num_frames, bucket.height, bucket.width)
    order: list[int] = generator("cycle_order", *key, *name).permutation(count).tolist()
    return order
