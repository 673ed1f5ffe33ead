"""One optimizer step on fake tensors, run by the engine that trains: memory and operations.

The step is the engine's own: its forward pass under autocast, backward, clipping, AdamW, then the
average of the weights. Tensors are fake and on the CPU, whatever is installed; autocast casts as
CUDA's does (`tracing.cuda_casts`). As under data parallelism over several ranks, the gradients'
one copy (the buckets) stays from step to step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed import ProcessGroup
from torch.testing._internal.distributed.fake_pg import FakeStore

from kinetoscope.models.conv import fused_conv
from kinetoscope.steps.rank_environment import LOOPBACK, RankEnvironment
from kinetoscope.tracing.cuda_casts import casts_of_cuda
from kinetoscope.tracing.host_reads import HostReads
from kinetoscope.tracing.tracker import Peak, Tracker
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.ema import EMA

_ALONE = RankEnvironment(1, 0, 1, 0, LOOPBACK, 0)

# What models ask before they run what is for CPUs.
_CPU_ALONE = ("native_norm_keeps_channels_last", "products_sum_exactly")


@dataclass(frozen=True, slots=True)
class StepTrace:
    """What an optimizer step of one micro-batch takes.

    Attributes:
        peaks: of each phase: ``forward``, ``backward`` and ``update``.
        forward_flops: of the forward pass.
        backward_flops: of the backward pass, with what it computes again.
    """

    peaks: Mapping[str, Peak]
    forward_flops: float
    backward_flops: float


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Make tensors fake, let the CPU's autocast cast as CUDA's, and models choose what GPUs run.

    Models are built, and their steps traced, inside.
    """
    with FakeTensorMode(), casts_of_cuda(), _choices_of_cuda():
        yield


@contextmanager
def fake_ranks(number: int) -> Iterator[ProcessGroup | None]:
    """Be the first of ranks that share their samples; what they would send and get is made up.

    Args:
        number: of ranks. 1 makes no group.
    """
    if number == 1:
        yield None
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=number)
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


@contextmanager
def _choices_of_cuda() -> Iterator[None]:
    chosen = {name: getattr(fused_conv, name) for name in _CPU_ALONE}
    for name in _CPU_ALONE:
        setattr(fused_conv, name, lambda _: False)
    try:
        yield
    finally:
        for name, choice in chosen.items():
            setattr(fused_conv, name, choice)


class StepTracer:
    """Traces steps of one objective, of any batches. Use it inside `fake_tensors`.

    Args:
        objective: with fake weights.
        loop: precision, optimizer, clipping and average.
    """

    def __init__(self, objective: Objective, loop: TrainLoopConfig) -> None:
        self._loop = loop
        self._objective = objective
        self._tracker = Tracker()
        self._engine = TorchDDPEngine(_ALONE, dtype=loop.dtype)
        self._engine.device = torch.device("cpu")
        # Torch can't move fake parameters, and these are where they should be.
        objective.__dict__["to"] = lambda _: objective
        self._engine.prepare(objective, loop.optimizer)
        self._average = EMA(objective.model, loop.ema_decay) if loop.ema_decay else None
        self._gradients = {
            p: torch.empty_like(p) for p in objective.parameters() if p.requires_grad
        }
        # AdamW makes its moments in its first step.
        self._give_gradients()
        self._engine.step(loop.optimizer.lr)
        if self._average is not None:
            self._tracker.mark(self._average.export_state().values(), "average")
        self._tracker.mark(self._engine.export_state()["optimizer"].values(), "optimizer")
        self._tracker.mark([*objective.parameters(), *objective.buffers()], "weights")
        self._tracker.mark(self._gradients.values(), "gradients")
        self._update = self._traced_update()

    def trace(self, tensors: Mapping[str, Tensor]) -> StepTrace:
        """Trace a step with one micro-batch on this rank.

        Args:
            tensors: of the batch, fake too.
        """
        tracker = self._tracker
        tracker.mark(tensors.values(), "inputs")
        self._give_gradients()
        done: list[tuple[Peak, float]] = []

        def phase_is_done(*_: object) -> None:
            done.append((tracker.peak, tracker.flops))
            tracker.begin("temporaries")

        with ExitStack() as stack:
            stack.callback(self._objective.register_forward_hook(phase_is_done).remove)
            stack.enter_context(HostReads("cpu"))
            stack.enter_context(tracker)
            tracker.begin("activations")
            self._engine.forward_backward(tensors, scale=1.0, last=True)
            phase_is_done()
        (forward, forward_flops), (backward, backward_flops) = done
        peaks = {"forward": forward, "backward": backward, "update": self._update}
        return StepTrace(peaks, forward_flops, backward_flops)

    def _traced_update(self) -> Peak:
        self._give_gradients()
        tracker = self._tracker
        with HostReads("cpu"), tracker:
            tracker.begin("temporaries")
            self._engine.clip_gradients(self._loop.grad_clip)
            self._engine.step(self._loop.optimizer.lr)
            if self._average is not None:
                self._average.update()
        return tracker.peak

    def _give_gradients(self) -> None:
        for parameter, gradient in self._gradients.items():
            parameter.grad = gradient
