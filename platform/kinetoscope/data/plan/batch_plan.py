"""The global batch plan: which samples form each optimizer step, whatever the number of ranks.

A plan is a pure function of the clip table, its config, the seed and the epoch. Every rank computes
the same plan and takes its share of each step, so resuming on another number of ranks replays the
same steps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from kinetoscope.core.errors import ConfigError, DataError
from kinetoscope.core.keys import random_key, uniform
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.buckets import NOT_DRAWN, Bucket
from kinetoscope.data.plan.config import BucketsConfig, ClipPlanConfig
from kinetoscope.data.plan.drafts import Columns, Cost, Draft, draft_buckets, draft_clips, pixels_of
from kinetoscope.data.plan.order import arrange_steps

_log = logging.getLogger(__name__)

Int64s = npt.NDArray[np.int64]

# With small probabilities and few clips an epoch's draws may keep nothing; it is then drawn again.
_MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One sample.

    Attributes:
        clip: row of the table that the plan was made from.
        start_frame: first frame of the sample, counted from the clip's first.
        index: number of the sample, unique in its epoch; random draws of the sample are keyed by
            (seed, epoch, index).
    """

    clip: int
    start_frame: int
    index: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples of one shape that go through the model together."""

    bucket: Bucket
    items: tuple[PlanItem, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of one optimizer step, from cheap to expensive."""

    micro_batches: tuple[MicroBatch, ...]

    @property
    def num_samples(self) -> int:
        """Samples of the whole step, over all ranks."""
        return sum(len(batch.items) for batch in self.micro_batches)

    def for_rank(self, rank: int, world_size: int) -> tuple[MicroBatch, ...]:
        """Return the micro-batches that a rank computes.

        Raises:
            ConfigError: the world size does not divide the step.
        """
        check_world_size(len(self.micro_batches), world_size)
        return self.micro_batches[rank::world_size]


def check_world_size(micro_batches_per_step: int, world_size: int) -> None:
    """Refuse a number of ranks that can't share a step evenly.

    Raises:
        ConfigError: it lists the numbers that can.
    """
    if micro_batches_per_step % world_size:
        valid = [w for w in range(1, micro_batches_per_step + 1) if not micro_batches_per_step % w]
        raise ConfigError(
            f"{world_size} processes can't share micro_batches_per_step={micro_batches_per_step} "
            f"evenly; these numbers of processes can: {valid}",
            hint="change the number of processes or micro_batches_per_step",
        )


class EpochPlan(Sequence[Step]):
    """The steps of one epoch; each is built when it is asked for."""

    def __init__(self, draft: Draft, order: Int64s, num_frames: Int64s, window_key: int) -> None:
        self._draft = draft
        self._order = order
        self._num_frames = num_frames
        self._window_key = window_key
        sizes = np.diff(draft.offsets)[order.ravel()]
        self._first_index = np.concatenate([[0], np.cumsum(sizes)])

    @property
    def dropped(self) -> dict[str, int]:
        """Clips that no bucket took in this epoch, counted by reason."""
        return self._draft.dropped

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this epoch's batches."""
        return self._draft.notes

    @property
    def num_samples(self) -> int:
        """Samples of the epoch."""
        return int(self._first_index[-1])

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self._step(i) for i in range(*index.indices(len(self)))]
        return self._step(range(len(self))[index])

    def _step(self, number: int) -> Step:
        width = self._order.shape[1]
        places = range(number * width, (number + 1) * width)
        return Step(tuple(self._micro_batch(place) for place in places))

    def _micro_batch(self, place: int) -> MicroBatch:
        draft = self._draft
        number = int(self._order.flat[place])
        bucket = draft.buckets[int(draft.bucket[number])]
        clips = draft.clips[draft.offsets[number] : draft.offsets[number + 1]]
        first = int(self._first_index[place])
        index = np.arange(first, first + len(clips))
        room = self._num_frames[clips] - bucket.num_frames + 1
        starts = (uniform(self._window_key, index) * room).astype(np.int64)
        rows = zip(clips.tolist(), starts.tolist(), index.tolist(), strict=True)
        return MicroBatch(bucket, tuple(PlanItem(*row) for row in rows))


class BatchPlan:
    """All epochs of a training stage.

    Args:
        table: the clips that are trained on; items refer to its rows.
        config: buckets (DiT) or batches of one size (VAE).
        micro_batches_per_step: micro-batches of every optimizer step, over all ranks.
        seed: of the run.
        stride: pixel strides (height, width) of the model: bucket sizes are cut to multiples.
        cost: of the micro-batches of buckets; those of a step cost about the same.
    """

    def __init__(
        self,
        table: ClipTable,
        config: BucketsConfig | ClipPlanConfig,
        *,
        micro_batches_per_step: int = 1,
        seed: int,
        stride: tuple[int, int] = (1, 1),
        cost: Cost = pixels_of,
    ) -> None:
        self._columns = Columns(table.num_frames, table.height, table.width)
        self._config = config
        self._seed = seed
        self._stride = stride
        self._cost = cost
        self._noted: set[str] = set()
        self.micro_batches_per_step = micro_batches_per_step

    def epoch(self, epoch: int) -> EpochPlan:
        """Return the steps of an epoch (from 0); at least one.

        Raises:
            DataError: no clip fits: it names the buckets, the clips and why they were dropped.
        """
        draft, key = self._draft(epoch)
        for note in draft.notes:
            if note not in self._noted:
                self._noted.add(note)
                _log.warning("%s", note)
        order = arrange_steps(
            draft.cost, draft.bucket, micro_batches_per_step=self.micro_batches_per_step, key=key
        )
        window_key = random_key("window", *key)
        return EpochPlan(draft, order, self._columns.num_frames, window_key)

    def steps_from(self, epoch: int = 0, step: int = 0) -> Iterator[tuple[int, int, Step]]:
        """Yield (epoch, step in the epoch, step) from a position on, for ever.

        A position one past an epoch's last step is the start of the next epoch.
        """
        while True:
            plan = self.epoch(epoch)
            for number in range(step, len(plan)):
                yield epoch, number, plan[number]
            epoch, step = epoch + 1, 0

    def _draft(self, epoch: int) -> tuple[Draft, tuple[int | str, ...]]:
        for attempt in range(_MAX_DRAWS):
            key = (self._seed, epoch, attempt)
            if isinstance(self._config, BucketsConfig):
                draft = draft_buckets(
                    self._columns, self._config, stride=self._stride, cost=self._cost, key=key
                )
            else:
                at_least = self.micro_batches_per_step
                draft = draft_clips(self._columns, self._config, at_least=at_least, key=key)
            if len(draft):
                return draft, key
            if NOT_DRAWN not in draft.dropped:
                break
        raise self._nothing_fits(draft)

    def _nothing_fits(self, draft: Draft) -> DataError:
        columns, config = self._columns, self._config
        if isinstance(config, BucketsConfig):
            wanted = [f"{b.resolution_name} x {b.num_frames} frames" for b in config.buckets]
        else:
            wanted = [f"{config.height}x{config.width} x {config.num_frames} frames"]
        dropped = "; ".join(f"{count} x {reason}" for reason, count in draft.dropped.items())
        found = "there are no clips"
        if len(columns):
            largest = int(np.argmax(columns.height * columns.width))
            found = (
                f"the {len(columns)} clips have at most {columns.num_frames.max()} frames and "
                f"{columns.height[largest]}x{columns.width[largest]} pixels; dropped: {dropped}"
            )
        return DataError(
            f"no batch can be formed for {', '.join(wanted)}: {found}",
            hint="use longer or larger videos, or smaller buckets (num_frames, resolution)",
        )
