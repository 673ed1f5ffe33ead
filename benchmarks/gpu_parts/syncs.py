"""Where a training step makes the host wait for the device."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from gpu_parts.measure import Bench
from gpu_parts.sizes import Clips
from gpu_parts.stdit import batch_of, objective_of
from gpu_parts.training_step import TrainingStep

from kinetoscope.tracing.host_reads import HostReads

_OURS = re.compile(r".*/(kinetoscope|benchmarks)/")


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
        with HostReads("cpu") as reads:
            yield places
        places.update(read.place for read in reads.found)
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
