"""Batches of pixels, and of noise, from a plan's micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kinetoscope.core.keys import random_key
from kinetoscope.core.units import MIB
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.batch_plan import PlanItem
from kinetoscope.data.plan.buckets import Bucket
from kinetoscope.data.video.clip_reader import ClipReader

LatentShape = Callable[[tuple[int, int, int]], tuple[int, ...]]
"""Maps the pixels' ``(T, H, W)`` to the shape of one sample's latents."""


def sample_keys(
    what: str, key: tuple[str, int], epoch: int, items: Sequence[PlanItem]
) -> list[int]:
    """Return one random key per sample.

    Args:
        what: the use of the draw; different uses are independent.
        key: name of the training step, and seed of the run.
        epoch: of the plan.
        items: the samples.
    """
    return [random_key(what, *key, epoch, item.index) for item in items]


class ClipFeed:
    """Reads the pixels of planned samples.

    Args:
        table: what the plan's items refer to.
        cache_mib: decoded clips kept in memory.
    """

    def __init__(self, table: ClipTable, *, cache_mib: int) -> None:
        self._reader = ClipReader(table, cache_bytes=cache_mib * MIB)

    def levels(self, bucket: Bucket, items: Sequence[PlanItem]) -> Tensor:
        """Return ``B T H W C``, uint8, at the bucket's size; `pixels_of` makes floats of them."""
        size = (bucket.height, bucket.width)
        clips = [
            self._reader.read(item.clip, item.start_frame, bucket.num_frames, size=size)
            for item in items
        ]
        return torch.from_numpy(np.stack(clips))
