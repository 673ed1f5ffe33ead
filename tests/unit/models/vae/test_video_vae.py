from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kinetoscope.models.config import Size
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE

GOLDEN = Path(__file__).parents[3] / "golden/reference"


def read_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(  # noqa: SIM118
            file.metadata()["config"]
        )


TENSORS, GOLDEN_CONFIG = read_golden(GOLDEN / "vae_pipeline.safetensors")
KEYS = json.loads((GOLDEN / "keys_vae_v1_2.json").read_text())
SIZES = json.loads((GOLDEN / "vae_latent_size.json").read_text())


def golden_config() -> VideoVAEConfig:
    spatial, temporal = GOLDEN_CONFIG["vae_2d"], GOLDEN_CONFIG["vae_temporal"]
    pipeline = GOLDEN_CONFIG["pipeline"]
    return VideoVAEConfig(
        spatial=SpatialVAEConfig(
            block_widths=spatial["block_out_channels"],
            layers_per_block=spatial["layers_per_block"],
            norm_groups=spatial["norm_num_groups"],
        ),
        temporal=TemporalVAEConfig(
            base_width=temporal["filters"],
            multipliers=temporal["channel_multipliers"],
            num_res_blocks=temporal["num_res_blocks"],
            temporal_downsample=temporal["temporal_downsample"],
            norm_groups=temporal["num_groups"],
        ),
        chunk_frames=pipeline["micro_frame_size"],
        spatial_micro_batch=GOLDEN_CONFIG["micro_batch_size"],
        shift=pipeline["shift"],
        scale=pipeline["scale"],
    )


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    model = VideoVAE(golden_config())
    prefix = "weights/"
    weights = {k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    return model


def check(case: str, actual: dict[str, Tensor]) -> None:
    for name, value in actual.items():
        expected = TENSORS[f"out/{case}/{name}"]
        torch.testing.assert_close(value, expected, atol=6e-5, rtol=1e-4)
        assert (value - expected).abs().max() <= 2e-5 * expected.abs().max(), name


@pytest.mark.parametrize("case", ["T1", "T17", "T34", "T51"])
def test_encode_and_decode_equal_the_reference(vae: VideoVAE, case: str) -> None:
    video = TENSORS[f"in/{case}/x"]
    with torch.no_grad():
        actual = {
            "x_z": vae.encode_frames(video),
            "z": vae.encode(video).mode(),
            "dec": vae.decode(TENSORS[f"in/{case}/z"], video.shape[2]),
            "spatial_dec": vae.decode_frames(TENSORS[f"in/{case}/z_spatial"]),
        }
    check(case, actual)


@pytest.mark.parametrize("case", ["cal_loss_T1", "cal_loss_T17"])
def test_the_parts_that_losses_use_equal_the_reference(vae: VideoVAE, case: str) -> None:
    video = TENSORS[f"in/{case}/x"]
    with torch.no_grad():
        made = vae(video)
    actual = {
        "x_z": made.frame_latents_BZThw,
        "z": made.latents_BZthw,
        "post_mean": made.posterior.mean,
        "post_logvar": made.posterior.logvar,
        "x_z_rec": made.decoded_latents_BZThw,
        "x_rec": made.video_BCTHW,
    }
    check(case, actual)


def test_full_size_has_the_released_keys_and_shapes() -> None:
    with torch.device("meta"):
        full = VideoVAE(VideoVAEConfig())
    assert {key: list(value.shape) for key, value in full.state_dict().items()} == KEYS["keys"]
    assert sum(p.numel() for p in full.parameters()) == 393_341_007
    assert list(dict(full.named_buffers())) == ["shift", "scale"]


@pytest.mark.parametrize(("variant", "chunk_frames"), [("micro17", 17), ("micro_none", None)])
def test_latent_sizes_equal_the_reference(variant: str, chunk_frames: int | None) -> None:
    config = golden_config().model_copy(update={"chunk_frames": chunk_frames})
    with torch.device("meta"):
        vae = VideoVAE(config)
    functions: dict[str, Callable[[Size], Size]] = {
        "pipeline": vae.latent_size,
        "spatial": vae.spatial_vae.latent_size,
        "temporal": vae.temporal_vae.latent_size,
    }
    for name, function in functions.items():
        ours = [list(function(tuple(size))) for size in SIZES["in"]["sizes"]]
        assert ours == SIZES["out"][variant][name], name
    assert vae.chunk_latents == SIZES["out"][variant]["micro_z_frame_size"]


@pytest.mark.parametrize("num_frames", [1, 4, 5, 16, 17, 18, 33, 35])
def test_any_length_is_the_concatenation_of_its_pieces(vae: VideoVAE, num_frames: int) -> None:
    generator = torch.Generator().manual_seed(num_frames)
    video = torch.rand(1, 3, num_frames, 8, 8, generator=generator) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(video)
        pieces = [vae.encode(piece) for piece in torch.split(video, 17, dim=2)]
        z = posterior.mode()
        decoded = vae.decode(z, num_frames)
        first = vae.decode(pieces[0].mode(), min(17, num_frames))
    assert posterior.mean.shape[2:] == vae.latent_size((num_frames, 8, 8))
    torch.testing.assert_close(posterior.mean, torch.cat([p.mean for p in pieces], 2))
    torch.testing.assert_close(posterior.logvar, torch.cat([p.logvar for p in pieces], 2))
    assert decoded.shape == video.shape
    torch.testing.assert_close(decoded[:, :, :17], first)


def test_frame_latents_can_be_drawn_from_their_posterior(vae: VideoVAE) -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 19, 8, 8, generator=generator) * 2 - 1
    noise = torch.randn(2, 4, 19, 1, 1, generator=generator)
    with torch.no_grad():
        drawn = vae.encode_frames(video, noise=noise)
        frame = vae.spatial_vae.module.encode(video[1, :, 18][None])
        expected = frame.sample(noise[1, :, 18][None]) * 0.18215
        posterior = vae.encode(video, spatial_noise=noise)
        from_drawn = vae.encode_time(drawn)
    torch.testing.assert_close(drawn[1, :, 18][None], expected)
    torch.testing.assert_close(posterior.mean, (from_drawn.mean - vae.shift) / vae.scale)
    assert not torch.allclose(posterior.mean, vae.encode(video).mean)


def test_latents_are_drawn_with_the_given_noise(vae: VideoVAE) -> None:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(1, 3, 18, 8, 8, generator=generator) * 2 - 1
    noise = torch.randn(1, 4, 6, 1, 1, generator=generator)
    with torch.no_grad():
        drawn, mode = vae(video, noise=noise), vae(video)
    expected = mode.posterior.mean + mode.posterior.std * noise
    torch.testing.assert_close(drawn.latents_BZthw, expected)
    assert not torch.allclose(drawn.video_BCTHW, mode.video_BCTHW)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = VideoVAE(golden_config())
    video = torch.rand(1, 3, 18, 8, 8) * 2 - 1
    posterior = model.encode(video, spatial_noise=torch.randn(1, 4, 18, 1, 1))
    z = posterior.sample(torch.randn_like(posterior.mean))
    model.decode(z, 18).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_wrong_lengths_are_refused(vae: VideoVAE) -> None:
    with pytest.raises(ValueError, match="18 frames have 6 latent frames, got 5"):
        vae.decode(torch.zeros(1, 4, 5, 1, 1), 18)
    with pytest.raises(ValueError, match="num_frames=0 must be at least 1"):
        vae.latent_size((0, 8, 8))
