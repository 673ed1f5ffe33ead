"""A tiny bundle of real models with seeded weights."""

from __future__ import annotations

import pytest
import torch

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.bundle import Bundle, BundleSpec
from kinetoscope.inference.config import ClipSize
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.text.config import SeededTableConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    torch.manual_seed(0)
    spec = BundleSpec(
        vae=VideoVAEConfig(
            spatial=SpatialVAEConfig(block_widths=(8, 8, 8), layers_per_block=1, norm_groups=4),
            temporal=TemporalVAEConfig(
                base_width=8,
                multipliers=(1, 1, 1),
                num_res_blocks=1,
                temporal_downsample=(True, True),
                norm_groups=4,
            ),
        ),
        dit=STDiTConfig(depth=1, width=16, num_heads=2, text_width=8, max_text_tokens=16),
        text_encoder=SeededTableConfig(width=8),
        flow=RectifiedFlowConfig(base_size_px=32),
        sampler=SamplerConfig(num_steps=2, guidance=3.0),
        size=ClipSize(num_frames=5),
        fps=8.0,
        scores={"motion": 2.5},
        lineage={"vae": "sha256:1"},
    )
    return Bundle(
        spec, build_autoencoder(spec.vae).state_dict(), build_transformer(spec.dit).state_dict()
    )
