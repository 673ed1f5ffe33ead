from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from tiny.models import temporal_vae
from torch import Tensor

from kinetoscope.models.conv.causal_conv import CausalConv3d
from kinetoscope.models.vae.config import TemporalVAEConfig
from kinetoscope.models.vae.temporal import TemporalVAE

GOLDEN = Path(__file__).parents[3] / "golden/reference/vae_temporal.safetensors"
TINY = temporal_vae(multipliers=(1, 2), temporal_downsample=(True,))


def read_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(  # noqa: SIM118
            file.metadata()["config"]
        )


TENSORS, GOLDEN_CONFIG = read_golden(GOLDEN)


@pytest.fixture(scope="module")
def golden_vae() -> TemporalVAE:
    model = GOLDEN_CONFIG["model"]
    vae = TemporalVAE(
        TemporalVAEConfig(
            latent_channels=model["in_out_channels"],
            base_width=model["filters"],
            multipliers=model["channel_multipliers"],
            num_res_blocks=model["num_res_blocks"],
            temporal_downsample=model["temporal_downsample"],
            norm_groups=model["num_groups"],
        )
    )
    prefix = "weights/"
    weights = {k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix)}
    vae.load_state_dict(weights)
    return vae


@pytest.mark.parametrize("case", GOLDEN_CONFIG["cases"])
def test_equals_the_reference(golden_vae: TemporalVAE, case: str) -> None:
    num_frames = GOLDEN_CONFIG["cases"][case]["num_frames"]
    with torch.no_grad():
        posterior = golden_vae.encode(TENSORS[f"in/{case}/x"])
        actual = {
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "moments": torch.cat([posterior.mean, posterior.logvar], 1),
            "std": posterior.std,
            "kl": posterior.kl(),
            "dec": golden_vae.decode(TENSORS[f"in/{case}/z"], num_frames),
            "rec_mode": golden_vae.decode(posterior.mode(), num_frames),
        }
    for name, value in actual.items():
        expected = TENSORS[f"out/{case}/{name}"]
        torch.testing.assert_close(value, expected, atol=3e-4, rtol=1e-4)
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max(), name


def test_default_size() -> None:
    with torch.device("meta"):
        vae = TemporalVAE(TemporalVAEConfig())
    assert sum(p.numel() for p in vae.parameters()) == 309_687_144
    assert sum(p.numel() for p in vae.encoder.parameters()) == 144_421_128
    assert len(vae.state_dict()) == 267


@pytest.mark.parametrize(("kernel_size", "stride_t"), [(1, 1), (3, 1), (3, 2)])
def test_a_convolution_does_not_see_the_future(kernel_size: int, stride_t: int) -> None:
    torch.manual_seed(0)
    conv = CausalConv3d(2, 3, kernel_size, stride_t=stride_t)
    x = torch.randn(1, 2, 8, 3, 3)
    changed = x.clone()
    changed[:, :, 4:] += 1.0
    before, after = conv(x), conv(changed)
    assert before.shape == (1, 3, 8 // stride_t, 3, 3)
    seen = 4 // stride_t
    torch.testing.assert_close(after[:, :, :seen], before[:, :, :seen])
    assert not torch.allclose(after[:, :, seen], before[:, :, seen])


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    vae = TemporalVAE(TINY)
    posterior = vae.encode(torch.randn(2, 4, 3, 2, 2))
    vae.decode(posterior.sample(torch.randn_like(posterior.mean)), 3).square().sum().backward()
    without = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_latents_of_another_length_are_refused() -> None:
    vae = TemporalVAE(TINY)
    with pytest.raises(ValueError, match="5 frames have 3 latent frames, got 2"):
        vae.decode(torch.zeros(1, 4, 2, 2, 2), 5)


def test_groups_that_do_not_divide_the_widths_are_refused() -> None:
    with pytest.raises(ValidationError, match="norm_groups=32 must divide"):
        TemporalVAEConfig(base_width=16)
