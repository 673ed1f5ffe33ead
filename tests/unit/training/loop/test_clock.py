from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from kinetoscope.training.loop.clock import ForwardClock

CPU = torch.device("cpu")


class Slow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.05)
        return x * 2


def test_forward_passes_are_timed_and_what_happens_between_is_not() -> None:
    module = Slow()
    clock = ForwardClock(module, CPU)
    started = time.perf_counter()
    for _ in range(2):
        x = torch.ones(1, requires_grad=True)
        module(x).backward()
        time.sleep(0.05)
    seconds = clock.take_seconds()
    assert 0.1 <= seconds <= time.perf_counter() - started - 0.1


def test_what_was_taken_is_not_counted_again() -> None:
    module = Slow()
    clock = ForwardClock(module, CPU)
    module(torch.ones(1))
    clock.take_seconds()
    assert clock.take_seconds() == 0


def test_a_wrapper_around_the_module_is_timed_as_well() -> None:
    module = Slow()
    clock = ForwardClock(module, CPU)
    nn.Sequential(module)(torch.ones(1))
    assert clock.take_seconds() >= 0.05
