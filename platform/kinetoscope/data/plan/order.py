"""Put micro-batches into optimizer steps: equal cost inside a step, every bucket spread evenly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kinetoscope.core.keys import generator

Int64s = npt.NDArray[np.int64]


def arrange_steps(
    cost: npt.NDArray[np.float64],
    bucket: Int64s,
    *,
    micro_batches_per_step: int,
    key: tuple[int | str, ...],
) -> Int64s:
    """Return the numbers of each step's micro-batches, ``(num_steps, micro_batches_per_step)``.

    A step is as slow as its slowest rank, so micro-batches are sorted by cost and cut into steps.
    The steps are then shuffled in strata: of a bucket with n steps, one falls at a random place in
    each n-th of the epoch. Over any stretch of steps, each bucket thus keeps its share to within
    two steps or so. What does not fill a last step is left out, chosen at random; fewer
    micro-batches than one step repeat.

    Args:
        cost: expected compute per micro-batch.
        bucket: bucket number per micro-batch.
        micro_batches_per_step: M.
        key: parts of the random key.
    """
    rng = generator("step_order", *key)
    num_steps = max(len(cost) // micro_batches_per_step, 1)
    chosen = np.resize(rng.permutation(len(cost)), num_steps * micro_batches_per_step)
    by_cost = np.lexsort((bucket[chosen], cost[chosen]))
    steps = chosen[by_cost].reshape(num_steps, micro_batches_per_step)
    label = bucket[steps[:, micro_batches_per_step // 2]]
    place = np.empty(num_steps, dtype=np.float64)
    for number in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == number))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return steps[np.argsort(place, kind="stable")]
