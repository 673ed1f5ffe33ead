"""The peak that tracing says a training step has, without a GPU."""

from __future__ import annotations

from gpu_parts.sizes import EMA_DECAY, FLOW, GRAD_CLIP, OPTIMIZER, Clips, Sizes

from kinetoscope.tracing.flow import FlowTracer
from kinetoscope.tracing.step import fake_tensors
from kinetoscope.training.loop.config import TrainLoopConfig


def traced_peak_bytes(sizes: Sizes, clips: Clips) -> int:
    """Return the traced peak of a step on one GPU.

    A trace has the gradients of several ranks, which stay from step to step. One rank's come and go
    with the backward pass, which has its peak before nearly all of them.
    """
    loop = TrainLoopConfig(
        num_steps=1, optimizer=OPTIMIZER, grad_clip=GRAD_CLIP, ema_decay=EMA_DECAY, dtype="bf16"
    )
    with fake_tensors():
        trace = FlowTracer(sizes.dit, FLOW, loop).trace(
            sizes.vae.latent_size(clips.size), clips.batch
        )
    kept = {
        phase: peak.total_bytes - (peak.bytes_by_kind["gradients"] if phase != "update" else 0)
        for phase, peak in trace.peaks.items()
    }
    return max(kept.values())
