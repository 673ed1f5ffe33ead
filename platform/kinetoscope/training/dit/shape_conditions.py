"""What the transformer is told of the size and the rate of clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.batch_plan import PlanItem
from kinetoscope.data.plan.buckets import Bucket
from kinetoscope.inference.config import IMAGE_FPS


def shape_conditions(
    table: ClipTable, bucket: Bucket, items: Sequence[PlanItem]
) -> dict[str, Tensor]:
    """Return ``height``, ``width`` (pixels), ``num_frames`` and ``fps``, each B."""
    fps = [IMAGE_FPS if bucket.num_frames == 1 else float(table.fps[item.clip]) for item in items]
    count = len(items)
    return {
        "height": torch.full((count,), float(bucket.height)),
        "width": torch.full((count,), float(bucket.width)),
        "num_frames": torch.full((count,), float(bucket.num_frames)),
        "fps": torch.tensor(fps),
    }
