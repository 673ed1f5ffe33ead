"""The eager implementation that benchmarks compare with, and ours against it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.models import spatial_vae, temporal_vae, video_vae
from torch import nn
from torch.utils.checkpoint import checkpoint

from kinetoscope.models.vae.config import TemporalVAEConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.models.weights.open_sora.config import (
    temporal_vae_config_from_open_sora,
    video_vae_config_from_open_sora,
)
from kinetoscope.parity.compare import CaseResult, tensor_cases
from kinetoscope.parity.golden import GoldenFile, read_golden

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests/golden/reference"
# As in the set's index.
TOLERANCES = {
    "vae_temporal.safetensors": {"out": {"atol": 3e-4, "rtol": 1e-4}},
    "vae_pipeline.safetensors": {"out": {"atol": 6e-5, "rtol": 1e-4}},
}
VIDEO = video_vae(
    spatial=spatial_vae(block_widths=(8, 16)),
    temporal=temporal_vae(multipliers=(1, 2, 2)),
    chunk_frames=5,
    spatial_micro_batch=3,
)
TEMPORAL = [
    TemporalVAEConfig(base_width=8, num_res_blocks=1, norm_groups=4),
    TemporalVAEConfig(
        latent_channels=3,
        frame_channels=5,
        hidden_channels=6,
        base_width=6,
        multipliers=(2, 3, 1),
        num_res_blocks=2,
        temporal_downsample=(True, False),
        norm_groups=3,
        activation="relu",
    ),
]


def eager(name: str) -> Any:
    spec = importlib.util.spec_from_file_location("eager_vae", ROOT / "benchmarks/eager/vae.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def golden_file(name: str) -> GoldenFile:
    entry = {"tolerance": TOLERANCES[name]}
    return read_golden(GOLDEN, name, entry)


def passed(results: list[CaseResult]) -> list[str]:
    assert [f"{r.case}: {r.detail}" for r in results if not r.ok] == []
    return [r.case for r in results]


def same_weights(first: nn.Module, second: nn.Module) -> None:
    torch.manual_seed(3)
    for parameter in first.parameters():
        nn.init.normal_(parameter, std=0.2) if parameter.dim() == 1 else None
    second.load_state_dict(first.state_dict())


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_eager_temporal_vae_passes_the_reference() -> None:
    golden = golden_file("vae_temporal.safetensors")
    vae = eager("EagerTemporalVAE")(temporal_vae_config_from_open_sora(golden.config["model"]))
    vae.load_state_dict(golden.weights)

    def compute(case: str) -> dict[str, torch.Tensor]:
        x, z = golden.inputs(case)["x"], golden.inputs(case)["z"]
        with torch.no_grad():
            posterior = vae.encode(x)
            return {
                "moments": torch.cat([posterior.mean, posterior.logvar], 1),
                "mean": posterior.mean,
                "logvar": posterior.logvar,
                "std": posterior.std,
                "kl": posterior.kl(),
                "dec": vae.decode(z, x.shape[2]),
                "rec_mode": vae.decode(posterior.mode(), x.shape[2]),
            }

    assert len(passed(list(tensor_cases(golden, compute)))) == 7


def test_the_eager_video_vae_passes_the_reference() -> None:
    golden = golden_file("vae_pipeline.safetensors")
    vae = eager("EagerVideoVAE")(video_vae_config_from_open_sora(golden.config))
    vae.load_state_dict(golden.weights)

    def compute(case: str) -> dict[str, torch.Tensor]:
        inputs = golden.inputs(case)
        num_frames = inputs["x"].shape[2]
        with torch.no_grad():
            frame_latents = vae.encode_frames(inputs["x"])
            posterior = vae.encode_time(frame_latents)
            if "z" in inputs:
                return {
                    "x_z": frame_latents,
                    "z": vae.encode(inputs["x"]).mode(),
                    "dec": vae.decode(inputs["z"], num_frames),
                    "spatial_dec": vae.decode_frames(inputs["z_spatial"]),
                }
            decoded = vae.temporal_vae.decode(posterior.mode(), num_frames)
            return {
                "x_z": frame_latents,
                "z": posterior.mode(),
                "post_mean": posterior.mean,
                "post_logvar": posterior.logvar,
                "x_z_rec": decoded,
                "x_rec": vae.decode_frames(decoded),
            }

    assert len(passed(list(tensor_cases(golden, compute)))) == 6


@pytest.mark.parametrize("config", TEMPORAL)
@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_the_temporal_vae_and_its_gradients_equal_eager(
    config: TemporalVAEConfig, num_frames: int
) -> None:
    torch.manual_seed(0)
    ours, plain = TemporalVAE(config), eager("EagerTemporalVAE")(config)
    same_weights(ours, plain)
    x = torch.randn(2, config.in_channels, num_frames, 3, 2)
    inputs, outputs = [], []
    for vae in (ours, plain):
        inputs.append(x.clone().requires_grad_())
        posterior = vae.encode(inputs[-1])
        outputs.append(vae.decode(posterior.mean + 0.1 * posterior.logvar, num_frames))
        outputs[-1].square().sum().backward()
    assert outputs[0].shape == x.shape
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(gradients(ours), gradients(plain), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("num_frames", [1, 8])
def test_the_video_vae_and_its_gradients_equal_eager(num_frames: int) -> None:
    torch.manual_seed(0)
    ours, plain = VideoVAE(VIDEO), eager("EagerVideoVAE")(VIDEO)
    same_weights(ours, plain)
    video = torch.rand(2, 3, num_frames, 6, 10) * 2 - 1
    outputs = []
    for vae in (ours, plain):
        outputs.append(vae.decode(vae.encode(video).mode(), num_frames))
        outputs[-1].square().mean().backward()
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients(ours), gradients(plain), atol=1e-4, rtol=1e-3)


def test_gradients_are_the_same_under_checkpointing() -> None:
    torch.manual_seed(0)
    vae = TemporalVAE(TEMPORAL[0])
    x = torch.randn(1, 4, 5, 2, 3)
    vae.encode(x).mean.square().sum().backward()
    wanted = gradients(vae)
    vae.zero_grad()
    mean: Any = checkpoint(lambda given: vae.encode(given).mean, x, use_reentrant=False)
    mean.square().sum().backward()
    assert wanted
    torch.testing.assert_close(gradients(vae), wanted)
