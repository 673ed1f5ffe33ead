"""How long a rank computes before it waits for others."""

from __future__ import annotations

import time

import torch
from torch import nn

_Events = tuple[torch.cuda.Event, torch.cuda.Event]


class ForwardClock:
    """Times the forward passes of a module.

    Backward passes end in the sum of gradients, in which fast ranks wait for slow ones: their time
    is the same on all. Forward passes wait for nobody (but for ranks that share the same samples).
    Nor does this clock wait for a GPU: of one, it tells the time of the passes before the last
    call, which are done by the next.

    Args:
        module: whose calls are timed, by hooks, whatever an engine wraps around it.
        device: where it computes.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._began = 0.0
        self._events: list[_Events] = []
        self._queued: list[_Events] = []
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end)

    def take_seconds(self) -> float:
        """Return the time since the last call of this method; of a GPU, up to that call.

        Between two calls the GPU's work has to be waited for, as reading a result does.
        """
        done, self._queued = self._queued, self._events
        self._events = []
        self._seconds += sum(begin.elapsed_time(end) for begin, end in done) / 1000
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _begin(self, *_: object) -> None:
        if self._on_gpu:
            # The CPU only queues the work: the GPU says when it did it.
            events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            events[0].record()
            self._events.append(events)
        else:
            self._began = time.perf_counter()

    def _end(self, *_: object) -> None:
        if self._on_gpu:
            self._events[-1][1].record()
        else:
            self._seconds += time.perf_counter() - self._began
