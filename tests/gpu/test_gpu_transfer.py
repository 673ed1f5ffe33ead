"""How batches come to a GPU, and how its time is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinetoscope.training.engine.transfer import pixels_in, sent
from kinetoscope.training.loop.clock import ForwardClock

pytestmark = pytest.mark.gpu

LEVELS = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 1, 16, 16, 3)


def test_levels_become_the_same_pixels_on_a_gpu(device: torch.device) -> None:
    expected = pixels_in({"pixels": LEVELS})
    actual = pixels_in(sent({"pixels": LEVELS}, device))
    assert (actual.device.type, actual.dtype) == (device.type, torch.float32)
    torch.testing.assert_close(actual.cpu(), expected, atol=0, rtol=0)


def test_forward_passes_take_time(device: torch.device) -> None:
    layer = nn.Linear(64, 64).to(device)
    clock = ForwardClock(layer, device)
    x = torch.ones(64, 64, device=device)
    for _ in range(2):
        # Reading a result waits for the work before it.
        layer(x).sum().item()
        first = clock.take_seconds()
    assert first > 0
