from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny.models import spatial_vae

from kinetoscope.models.vae.config import SpatialVAEConfig
from kinetoscope.models.vae.spatial import SpatialVAE

CONFIG = spatial_vae(block_widths=(8, 16, 16))


@pytest.fixture(scope="module")
def diffusers_vae() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=CONFIG.block_widths,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=CONFIG.layers_per_block,
        norm_num_groups=CONFIG.norm_groups,
        latent_channels=CONFIG.latent_channels,
    ).eval()


@pytest.fixture(scope="module")
def ours(diffusers_vae: Any) -> SpatialVAE:
    vae = SpatialVAE(CONFIG)
    vae.load_state_dict(diffusers_vae.state_dict())
    return vae


@pytest.mark.parametrize("size", [(16, 24), (18, 23)])
def test_encode_equals_diffusers(
    ours: SpatialVAE, diffusers_vae: Any, size: tuple[int, int]
) -> None:
    frames = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        posterior = ours.encode(frames)
        expected = diffusers_vae.encode(frames).latent_dist
    assert posterior.mean.shape == (3, 4, size[0] // 4, size[1] // 4)
    torch.testing.assert_close(posterior.mean, expected.mean, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(posterior.logvar, expected.logvar, atol=2e-6, rtol=1e-5)


def test_decode_and_its_gradients_equal_diffusers(ours: SpatialVAE, diffusers_vae: Any) -> None:
    latents = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(2))
    mine, theirs = latents.clone().requires_grad_(), latents.clone().requires_grad_()
    decoded, expected = ours.decode(mine), diffusers_vae.decode(theirs).sample
    torch.testing.assert_close(decoded, expected, atol=2e-6, rtol=1e-5)
    decoded.square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-7, rtol=1e-4)
    weight = "decoder.up_blocks.0.resnets.0.conv1.weight"
    torch.testing.assert_close(
        ours.get_parameter(weight).grad,
        diffusers_vae.get_parameter(weight).grad,
        atol=1e-7,
        rtol=1e-4,
    )


def test_default_size_is_that_of_sdxl() -> None:
    with torch.device("meta"):
        vae = SpatialVAE(SpatialVAEConfig())
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert vae.config.stride == 8


def test_memory_order_of_the_input_does_not_matter() -> None:
    torch.manual_seed(0)
    vae = SpatialVAE(CONFIG)
    frames = torch.rand(2, 3, 8, 8) * 2 - 1
    reordered = frames.contiguous(memory_format=torch.channels_last)
    assert torch.equal(vae.encode(frames).mean, vae.encode(reordered).mean)


def test_groups_that_do_not_divide_the_widths_are_refused() -> None:
    with pytest.raises(ValidationError, match="norm_groups=32 must divide"):
        SpatialVAEConfig(block_widths=(16, 32))
