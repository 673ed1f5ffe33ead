"""Training steps of the transformer from cached latents, beside eager baselines."""

from __future__ import annotations

from collections.abc import Callable

import torch
from eager.stdit import EagerSTDiT, in_one_call, spelled_out
from gpu_parts.measure import GIB, Bench, measured, randomised, speed
from gpu_parts.sizes import FLOW, FPS, Clips, Sizes
from gpu_parts.traced import traced_peak_bytes
from gpu_parts.training_step import TrainingStep, generator
from torch import Tensor, nn

from kinetoscope.models.layers.packed_text import pack
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.training.dit.objective import FlowObjective

_SIDES: dict[str, Callable[[Sizes], nn.Module]] = {
    "ours": lambda sizes: STDiT(sizes.dit),
    "eager": lambda sizes: EagerSTDiT(sizes.dit, in_one_call),
    "spelled_out": lambda sizes: EagerSTDiT(sizes.dit, spelled_out),
}


def train(bench: Bench, resolution: str, *, sides: tuple[str, ...]) -> dict[str, object]:
    """Measure steps of a bucket on each side.

    A baseline that fails, e.g. for want of memory, is reported as an error and fails nothing else.

    Returns:
        By side its figures; of ours also ``speedup``, by which the eager baseline is slower.
    """
    told: dict[str, dict[str, object]] = {}
    for side in sides:
        try:
            told[side] = _measure(bench, bench.sizes.buckets[resolution], side)
        except RuntimeError as error:
            if side == "ours":
                raise
            told[side] = {"error": str(error).splitlines()[0]}
        bench.free()
    ours, eager = (told.get(side, {}).get("seconds") for side in ("ours", "eager"))
    if isinstance(ours, float) and isinstance(eager, float):
        told["ours"]["speedup"] = eager / ours
    return dict(told)


def objective_of(bench: Bench, side: str) -> FlowObjective:
    """Build a side's model on the device, with what it minimises."""
    sizes = bench.sizes
    with torch.device(bench.device):
        model = randomised(_SIDES[side](sizes))
    channels = sizes.dit.in_channels
    return FlowObjective(model, FLOW, shift=torch.zeros(channels), scale=torch.ones(channels))  # type: ignore[arg-type] # the baseline is called alike


def batch_of(
    sizes: Sizes, clips: Clips, text_lengths: list[int] | None = None, *, packed: bool
) -> dict[str, Tensor]:
    """Return a batch as the latent cache gives it.

    Args:
        sizes: of the models.
        clips: their number and size in pixels.
        text_lengths: text tokens of each; None: all that the model takes.
        packed: text comes as the feed packs it, not padded.
    """
    draws, count = generator(), clips.batch
    dit, latent = sizes.dit, (count, sizes.dit.in_channels, *sizes.vae.latent_size(clips.size))
    lengths = torch.tensor(text_lengths or [dit.max_text_tokens] * count)
    tensors = {
        name: torch.randn(latent, generator=draws) for name in ("mean", "logvar", "draw", "noise")
    }
    text = torch.randn(count, dit.max_text_tokens, dit.text_width, generator=draws)
    mask = torch.arange(dit.max_text_tokens) < lengths[:, None]
    given = pack(text, mask) if packed else (text, mask)
    figures = {
        "height": clips.height,
        "width": clips.width,
        "num_frames": clips.num_frames,
        "fps": FPS,
    }
    return {
        **tensors,
        "tau": torch.rand(count, generator=draws),
        **dict(zip(("text", "text_places" if packed else "text_mask"), given, strict=True)),
        "drop_text": torch.zeros(count, dtype=torch.bool),
        **{name: torch.full((count,), float(value)) for name, value in figures.items()},
    }


def _measure(bench: Bench, clips: Clips, side: str) -> dict[str, object]:
    sizes = bench.sizes
    ours = side == "ours"
    batch = batch_of(sizes, clips, packed=ours)
    step = TrainingStep(bench, objective_of(bench, side), batch, ema=True)
    taken = measured(bench, step)
    size = sizes.vae.latent_size(clips.size)
    frames, per_frame = sizes.dit.tokens(size)
    # The backward pass is twice the forward one; what checkpointing computes again is not counted.
    flops = 3 * clips.batch * sizes.dit.flops(size)
    tokens = clips.batch * frames * per_frame
    return {
        **taken.as_json(),
        **(_traced(sizes, clips) if ours else {}),
        "tokens": tokens,
        "tokens_per_second": tokens / taken.seconds,
        **speed(bench, flops, taken.seconds),
    }


def _traced(sizes: Sizes, clips: Clips) -> dict[str, object]:
    """Return the traced peak, or why there is none: what was measured is not lost with it."""
    try:
        return {"traced_peak_gib": traced_peak_bytes(sizes, clips) / GIB}
    except Exception as error:
        return {"traced_error": f"{type(error).__name__}: {error}".splitlines()[0]}
