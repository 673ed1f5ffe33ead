"""Generating a clip, phases apart: denoising steps, then decoding. Texts are given."""

from __future__ import annotations

import torch
from gpu_parts.measure import Bench, measured, randomised, speed
from gpu_parts.sizes import FLOW, FPS, Clips, Sizes
from gpu_parts.training_step import generator
from gpu_parts.vae import model_flops

from kinetoscope.diffusion.config import SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes
from kinetoscope.diffusion.sampler import sample, sampling_schedule
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.model import VideoVAE


def generate(bench: Bench) -> dict[str, object]:
    """Measure both phases, each warm."""
    with torch.no_grad(), bench.bf16():
        denoised = _denoise(bench)
        bench.free()
        decoded = _decode(bench)
    return {"denoise": denoised, "decode": decoded}


def _denoise(bench: Bench) -> dict[str, object]:
    sizes, clips = bench.sizes, bench.sizes.generated
    with torch.device(bench.device):
        model = randomised(STDiT(sizes.dit)).eval().requires_grad_(False)
    latent = sizes.vae.latent_size(clips.size)
    z = torch.randn(1, sizes.dit.in_channels, *latent, generator=generator()).to(bench.device)
    conditions = _conditions(bench, sizes, clips)

    def run(sampler: SamplerConfig) -> None:
        schedule = sampling_schedule(sampler, FLOW, ClipSizes.of(clips.size, latent[0]))
        sample(model, z, conditions, schedule)

    few = sizes.sampler.model_copy(update={"num_steps": 2})
    taken = measured(bench, lambda: run(sizes.sampler), warm_up=lambda: run(few), least=1)
    # Each step predicts with the text and without it.
    flops = 2 * sizes.sampler.num_steps * sizes.dit.flops(latent)
    return {
        **taken.as_json(),
        "steps": sizes.sampler.num_steps,
        **speed(bench, flops, taken.seconds),
    }


def _decode(bench: Bench) -> dict[str, object]:
    sizes, clips = bench.sizes, bench.sizes.generated
    with torch.device(bench.device):
        vae = VideoVAE(sizes.vae).eval().requires_grad_(False)
    latent = (1, sizes.vae.latent_channels, *sizes.vae.latent_size(clips.size))
    z = torch.randn(latent, generator=generator()).to(bench.device)

    def run() -> None:
        for _ in vae.decode_stream([z], clips.num_frames):
            pass

    taken = measured(bench, run, least=1)
    return {**taken.as_json(), **speed(bench, model_flops(sizes, clips, "decode"), taken.seconds)}


def _conditions(bench: Bench, sizes: Sizes, clips: Clips) -> Conditions:
    shape = (1, sizes.dit.max_text_tokens, sizes.dit.text_width)
    height, width, fps = (
        torch.full((1,), float(value), device=bench.device)
        for value in (clips.height, clips.width, FPS)
    )
    return Conditions(
        text_BSD=torch.randn(shape, generator=generator()).to(bench.device),
        text_mask_BS=None,
        height_B=height,
        width_B=width,
        fps_B=fps,
    )
