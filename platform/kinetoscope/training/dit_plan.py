"""The plans of the DiT stages, and how training goes on when the cached draws are used up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kinetoscope.core.keys import generator
from kinetoscope.data.buckets import Bucket
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan import BatchPlan, MicroBatch, PlanItem, Step
from kinetoscope.models.config import VideoVAEConfig
from kinetoscope.training.config import CachedPlan


def dit_plan(table: ClipTable, plan: CachedPlan, *, vae: VideoVAEConfig, seed: int) -> BatchPlan:
    """Return a stage's plan; the encoder and the stage must agree on every argument.

    Args:
        table: the clips that are trained on.
        plan: buckets and micro-batches of the stage.
        vae: its stride and the plan's patches cut the buckets' sizes.
        seed: of the run.
    """
    rows, columns = plan.patch_size
    return BatchPlan(
        table,
        plan.buckets,
        micro_batches_per_step=plan.micro_batches_per_step,
        seed=seed,
        stride=(vae.spatial.stride * rows, vae.spatial.stride * columns),
    )


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
