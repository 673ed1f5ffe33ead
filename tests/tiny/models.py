"""The smallest models that are still whole: their configs, and real ones with seeded weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.bundle import Bundle, BundleSpec
from kinetoscope.inference.config import ClipSize
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.text.config import SeededTableConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig


def spatial_vae(**changes: Any) -> SpatialVAEConfig:
    """Return a spatial VAE with 4 x 4 pixels to a latent position."""
    values: dict[str, Any] = {"block_widths": (8, 8, 8), "layers_per_block": 1, "norm_groups": 4}
    return SpatialVAEConfig(**values | changes)


def temporal_vae(**changes: Any) -> TemporalVAEConfig:
    """Return a temporal VAE with 4 frames to a latent frame."""
    values: dict[str, Any] = {
        "base_width": 8,
        "multipliers": (1, 1, 1),
        "num_res_blocks": 1,
        "temporal_downsample": (True, True),
        "norm_groups": 4,
    }
    return TemporalVAEConfig(**values | changes)


def video_vae(**changes: Any) -> VideoVAEConfig:
    """Return both as one, with the released normalisation."""
    values: dict[str, Any] = {"spatial": spatial_vae(), "temporal": temporal_vae()}
    return VideoVAEConfig(**values | changes)


def transformer(**changes: Any) -> STDiTConfig:
    """Return a transformer of one pair of blocks, for text as ``bundle`` encodes it."""
    values: dict[str, Any] = {
        "depth": 1,
        "width": 16,
        "num_heads": 2,
        "text_width": 8,
        "max_text_tokens": 16,
    }
    return STDiTConfig(**values | changes)


SPATIAL_VAE = spatial_vae()
VIDEO_VAE = video_vae()
HALVING_VAE = video_vae(
    spatial=spatial_vae(block_widths=(8, 8)),
    temporal=temporal_vae(multipliers=(1, 1), temporal_downsample=(True,)),
)
"""With 2 frames and 2 x 2 pixels to a latent position."""
TEXT_TOKENS, TEXT_WIDTH = 6, 12
"""Of ``random_transformer`` and ``transformer_inputs``."""


def random_transformer(**changes: Any) -> STDiT:
    """Return one whose every part matters: fresh ones have blocks that add nothing."""
    sizes: dict[str, Any] = {
        "depth": 2,
        "width": 32,
        "text_width": TEXT_WIDTH,
        "max_text_tokens": TEXT_TOKENS,
    }
    model = STDiT(transformer(**sizes | changes))
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name != "rope.freqs":
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=draws))
    return model


def transformer_inputs(batch: int = 2, frames: int = 3) -> dict[str, Tensor]:
    """Return seeded latents of 4 x 6 positions a frame, with their times, texts and sizes."""
    draws = torch.Generator().manual_seed(1)
    return {
        "x_BZthw": torch.randn(batch, 4, frames, 4, 6, generator=draws),
        "timestep_B": torch.linspace(100, 900, batch),
        "text_BSD": torch.randn(batch, TEXT_TOKENS, TEXT_WIDTH, generator=draws),
        "height_B": torch.full((batch,), 32.0),
        "width_B": torch.full((batch,), 48.0),
        "fps_B": torch.full((batch,), 24.0),
    }


def bundle(**changes: Any) -> Bundle:
    """Return untrained models of clips of 5 frames of 32 x 32 pixels."""
    values: dict[str, Any] = {
        "vae": VIDEO_VAE,
        "dit": transformer(),
        "text_encoder": SeededTableConfig(width=8),
        "flow": RectifiedFlowConfig(base_size_px=32),
        "sampler": SamplerConfig(num_steps=2, guidance=3.0),
        "size": ClipSize(num_frames=5),
        "fps": 8.0,
    }
    spec = BundleSpec(**values | changes)
    torch.manual_seed(0)
    vae, dit = build_autoencoder(spec.vae), build_transformer(spec.dit)
    return Bundle(spec, vae.state_dict(), dit.state_dict())
