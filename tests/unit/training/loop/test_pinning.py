"""What is loaded for a GPU; none is needed to see what is done for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinetoscope.data.plan.batch_plan import MicroBatch
from kinetoscope.data.plan.buckets import Bucket
from kinetoscope.training.loop.pinning import loads_for
from kinetoscope.training.loop.task import Batch

BATCH = Batch(
    {"pixels": torch.zeros(2, dtype=torch.uint8), "text": torch.zeros(2, device="meta")},
    num_samples=2,
    num_tokens=6,
)
MICRO_BATCH = MicroBatch(Bucket("", 1, 8, 8), ())


def load(epoch: int, micro_batch: MicroBatch) -> Batch:
    assert (epoch, micro_batch) == (3, MICRO_BATCH)
    return BATCH


def test_on_the_cpu_batches_stay_where_they_are() -> None:
    assert loads_for(torch.device("cpu"), load)(3, MICRO_BATCH) is BATCH


def test_for_a_gpu_what_is_on_the_host_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    devices: list[torch.device] = []
    copy = torch.ones(2, dtype=torch.uint8)

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return copy

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    device = torch.device("cuda", 5)
    batch = loads_for(device, load)(3, MICRO_BATCH)
    assert devices == [device]
    assert [tensor is BATCH.tensors["pixels"] for tensor in pinned] == [True]
    assert batch.tensors["pixels"] is copy
    assert batch.tensors["text"] is BATCH.tensors["text"]
    assert (batch.num_samples, batch.num_tokens) == (2, 6)
