"""Seconds, peaks and what the machine can do at best."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from gpu_parts.sizes import FULL, TINY, Sizes
from torch import nn

PEAK_FLOPS = 989.4e12
"""Of an H100 SXM in bf16, dense."""
GIB = 2**30
_MOST_RUNS = 5


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and at which sizes to measure."""

    device: torch.device
    tiny: bool

    @property
    def sizes(self) -> Sizes:
        """What is measured here."""
        return TINY if self.tiny else FULL

    @property
    def on_gpu(self) -> bool:
        """Whether figures mean anything."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all that it was told."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def bf16(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass is bf16."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def free(self) -> None:
        """Give back what nothing refers to any longer."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Measured:
    """What some runs took.

    Attributes:
        seconds: the median.
        runs: all of them, in order.
        warm_up_seconds: the run before, which counts for nothing.
        peak_bytes: most memory at once, weights and all; None without a GPU.
    """

    seconds: float
    runs: list[float]
    warm_up_seconds: float
    peak_bytes: int | None

    def as_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "seconds": self.seconds,
            "runs": self.runs,
            "warm_up_seconds": self.warm_up_seconds,
            "peak_gib": None if self.peak_bytes is None else self.peak_bytes / GIB,
        }


def measured(
    bench: Bench,
    run: Callable[[], object],
    *,
    warm_up: Callable[[], object] | None = None,
    least: int = 2,
    seconds: float = 10.0,
) -> Measured:
    """Warm up, then run until the seconds or five runs are used up.

    Args:
        bench: where.
        run: what is measured.
        warm_up: another thing to run first; None: the same.
        least: runs, however long they take.
        seconds: after which no further run begins.
    """
    warming = _seconds_of(bench, warm_up or run)
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    runs = [_seconds_of(bench, run) for _ in range(least)]
    while not bench.tiny and len(runs) < _MOST_RUNS and sum(runs) < seconds:
        runs.append(_seconds_of(bench, run))
    peak = torch.cuda.max_memory_allocated(bench.device) if bench.on_gpu else None
    return Measured(statistics.median(runs), runs, warming, peak)


def _seconds_of(bench: Bench, run: Callable[[], object]) -> float:
    """Return the time from a device at rest to a device at rest: what the caller waits for."""
    bench.wait()
    start = time.perf_counter()
    run()
    bench.wait()
    return time.perf_counter() - start


def matmul_flops(bench: Bench, *, repeats: int = 20) -> float:
    """Return the operations per second of a product of large bf16 matrices."""
    side = bench.sizes.matmul
    a, b = (torch.randn(side, side, device=bench.device).bfloat16() for _ in range(2))

    def run() -> None:
        for _ in range(repeats):
            a @ b

    return repeats * 2 * side**3 / measured(bench, run, seconds=1.0).seconds


def speed(bench: Bench, flops: float, seconds: float) -> dict[str, object]:
    """Return what model operations in some seconds come to.

    Args:
        bench: where they ran; what a matrix product reaches there is measured now.
        flops: of the model's maths, without what is computed again.
        seconds: that they took.
    """
    reached, best = flops / seconds, matmul_flops(bench)
    return {
        "model_tflop": flops / 1e12,
        "tflops": reached / 1e12,
        "mfu": reached / PEAK_FLOPS,
        "matmul_tflops": best / 1e12,
        "share_of_matmul": reached / best,
    }


def randomised(model: nn.Module) -> nn.Module:
    """Draw all weights anew: products with zeros need less power, and so run faster."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter.data, std=0.02)
    return model
