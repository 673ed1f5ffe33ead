"""Batches in memory that a GPU reads by itself, while this process goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from kinetoscope.data.plan.batch_plan import MicroBatch
from kinetoscope.training.loop.task import Batch

Load = Callable[[int, MicroBatch], Batch]


def loads_for(device: torch.device, load: Load) -> Load:
    """Return what loads batches so that sending them to a device is not waited for.

    Args:
        device: of the model. For a GPU, tensors are pinned: a copy out of them is never paged out,
            and torch gives their memory away again only when it is done.
        load: makes a batch, in any thread.
    """
    if device.type != "cuda":
        return load

    def load_pinned(epoch: int, micro_batch: MicroBatch) -> Batch:
        # A thread begins with the first GPU, on which it would take memory.
        torch.cuda.set_device(device)
        batch = load(epoch, micro_batch)
        tensors = {
            # What a text encoder made is on the GPU already.
            name: tensor.pin_memory() if tensor.device.type == "cpu" else tensor
            for name, tensor in batch.tensors.items()
        }
        return replace(batch, tensors=tensors)

    return load_pinned
