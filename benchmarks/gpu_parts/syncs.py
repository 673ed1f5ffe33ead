"""Where a training step makes the host wait for the device."""

from __future__ import annotations

import re
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from gpu_parts.measure import Bench
from gpu_parts.sizes import Clips
from gpu_parts.stdit import batch_of, objective_of
from gpu_parts.training_step import TrainingStep
from torch.utils._python_dispatch import TorchDispatchMode

_OURS = re.compile(r".*/(kinetoscope|benchmarks)/")
# What reads values back, or needs them for a shape: on a GPU each of them waits.
_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}


def count(bench: Bench) -> dict[str, object]:
    """Count the waits of a micro-batch with texts of several lengths, and of the update.

    Returns:
        ``micro_batch`` and ``update``: how often each place (file and line) waits.
    """
    sizes = bench.sizes
    bucket = sizes.buckets["144p"]
    clips = Clips(3, bucket.num_frames, bucket.height, bucket.width)
    lengths = [0, 1, sizes.dit.max_text_tokens]
    batch = batch_of(sizes, clips, lengths, packed=True)
    step = TrainingStep(bench, objective_of(bench, "ours"), batch, ema=True)
    step()
    sums = step.new_sums()
    bench.wait()
    with recorded(bench) as micro_batch:
        step.micro_batch(sums, last=True)
    with recorded(bench) as update:
        step.update(sums)
    return {
        "micro_batch": dict(micro_batch),
        "update": dict(update),
        "micro_batch_total": sum(micro_batch.values()),
        "update_total": sum(update.values()),
    }


@contextmanager
def recorded(bench: Bench) -> Iterator[Counter[str]]:
    """Count the waits within the context by place.

    torch itself tells of them on a GPU. Elsewhere the operations that would wait are counted, but
    not the transfers.
    """
    places: Counter[str] = Counter()
    if not bench.on_gpu:
        with _Reads(places):
            yield places
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchroniz" in str(warning.message):
            places[f"{_OURS.sub('', warning.filename)}:{warning.lineno}"] += 1


class _Reads(TorchDispatchMode):
    """Counts the operations that read values back."""

    def __init__(self, places: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = places

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, noting who asked for it if it reads."""
        del types
        if func.name().split(".")[0] in _READS:
            ours = [f for f in traceback.extract_stack() if "/kinetoscope/" in f.filename]
            place = ours[-1] if ours else traceback.extract_stack(limit=2)[0]
            self._places[f"{_OURS.sub('', place.filename)}:{place.lineno}"] += 1
        return func(*args, **(kwargs or {}))
