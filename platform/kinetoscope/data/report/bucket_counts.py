"""Counting a stage's clips by bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.plan.buckets import assign_buckets
from kinetoscope.data.report.bucket_table import BucketRow, BucketTable

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.plan.config import BucketsConfig

    Int64s = npt.NDArray[np.int64]


def count_buckets(
    config: BucketsConfig,
    columns: tuple[Int64s, Int64s, Int64s],
    *,
    stride: tuple[int, int],
    seed: int,
) -> BucketTable:
    """Count clips by bucket, as the first epoch of training draws them.

    Args:
        config: of the stage.
        columns: num_frames, height and width of the clips that are trained on, in the order of the
            clip table, which decides the draws.
        stride: pixels of one patch of the model's latents (height, width).
        seed: of the run.
    """
    # The key of the plan's first draw (`data.plan.batch_plan`): epoch 0, attempt 0.
    assigned = assign_buckets(config, columns, stride=stride, key=(seed, 0, 0))
    counts = np.bincount(assigned.bucket + 1, minlength=len(assigned.buckets) + 1)[1:]
    rows = [
        BucketRow(
            bucket.resolution, bucket.num_frames, bucket.height, bucket.width, num_clips, batch_size
        )
        for bucket, num_clips, batch_size in zip(
            assigned.buckets, counts.tolist(), assigned.batch_sizes, strict=True
        )
    ]
    return BucketTable(len(columns[0]), rows, assigned.dropped)
