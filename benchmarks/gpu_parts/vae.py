"""The video VAE beside an eager baseline: encoding, decoding, a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from eager.vae import EagerVideoVAE
from gpu_parts.measure import Bench, measured, speed
from gpu_parts.sizes import Clips, Sizes
from gpu_parts.training_step import TrainingStep, generator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.training.engine.base import Objective, Tensors

_SIDES: dict[str, Callable[[Sizes], nn.Module]] = {
    "ours": lambda sizes: VideoVAE(sizes.vae),
    "eager": lambda sizes: EagerVideoVAE(sizes.vae, spelled_out=False),
}


class Reconstruction(Objective):
    """The absolute error of pixels that were encoded, drawn and decoded: without any other loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss``, ``B``."""
        vae: Any = self.model
        pixels = tensors["pixels"]
        decoded = vae.decode(vae.encode(pixels).sample(tensors["noise"]), pixels.shape[2])
        return {"loss": (decoded - pixels).abs().flatten(1).mean(1)}


def measure(bench: Bench, mode: str) -> dict[str, object]:
    """Measure ``encode``, ``decode`` or ``train`` on both sides; see `stdit.train`."""
    told: dict[str, dict[str, object]] = {}
    clips = bench.sizes.vae_training if mode == "train" else bench.sizes.vae_clips
    for side in _SIDES:
        try:
            told[side] = _measure(bench, clips, side, mode)
        except RuntimeError as error:
            if side == "ours":
                raise
            told[side] = {"error": str(error).splitlines()[0]}
        bench.free()
    ours, eager = (told[side].get("seconds") for side in _SIDES)
    if isinstance(ours, float) and isinstance(eager, float):
        told["ours"]["speedup"] = eager / ours
    return dict(told)


def _measure(bench: Bench, clips: Clips, side: str, mode: str) -> dict[str, object]:
    with torch.device(bench.device):
        model: Any = _SIDES[side](bench.sizes)
    pixels, latents = _inputs(bench.sizes, clips)
    if mode == "train":
        batch = {"pixels": pixels, "noise": latents}
        run: Callable[[], object] = TrainingStep(bench, Reconstruction(model), batch, ema=False)
    else:
        pixels, latents = pixels.to(bench.device), latents.to(bench.device)

        def run() -> object:
            with torch.no_grad(), bench.bf16():
                if mode == "encode":
                    return model.encode(pixels).mode()
                return model.decode(latents, clips.num_frames)

    taken = measured(bench, run)
    return {
        **taken.as_json(),
        "frames_per_second": clips.batch * clips.num_frames / taken.seconds,
        **speed(bench, model_flops(bench.sizes, clips, mode), taken.seconds),
    }


def model_flops(sizes: Sizes, clips: Clips, mode: str) -> float:
    """Return the operations of a mode, those of the plain maths: counted without computing."""
    with torch.device("meta"):
        model: Any = EagerVideoVAE(sizes.vae, spelled_out=False)
        pixels, latents = (x.to("meta") for x in _inputs(sizes, clips))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if mode != "decode":
            model.encode(pixels)
        if mode != "encode":
            model.decode(latents, clips.num_frames)
    return float(counter.get_total_flops() * (3 if mode == "train" else 1))


def _inputs(sizes: Sizes, clips: Clips) -> tuple[Tensor, Tensor]:
    draws = generator()
    pixels = torch.rand(clips.batch, 3, *clips.size, generator=draws) * 2 - 1
    shape = (clips.batch, sizes.vae.latent_channels, *sizes.vae.latent_size(clips.size))
    return pixels, torch.randn(shape, generator=draws)
