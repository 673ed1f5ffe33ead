"""The video VAE on a GPU, where its weights and activations are channels-last as on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE

pytestmark = pytest.mark.gpu

CONFIG = VideoVAEConfig(
    spatial=SpatialVAEConfig(block_widths=(8, 16), layers_per_block=1, norm_groups=4),
    temporal=TemporalVAEConfig(
        base_width=8,
        multipliers=(1, 2),
        num_res_blocks=1,
        norm_groups=4,
        temporal_downsample=(True,),
    ),
    spatial_micro_batch=4,
)


@pytest.fixture
def vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(CONFIG)


def _video(num_frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.rand(1, 3, num_frames, 16, 24, generator=generator) * 2 - 1


def _run(vae: VideoVAE, video: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return outputs and all gradients of a reconstruction."""
    vae.zero_grad(set_to_none=True)
    video = video.requires_grad_()
    with torch.autocast(video.device.type, dtype, enabled=dtype is not torch.float32):
        posterior = vae.encode(video)
        decoded = vae.decode(posterior.mode(), video.shape[2])
    (decoded.float() - video.detach()).square().mean().backward()
    assert video.grad is not None
    found = {"mean": posterior.mean, "decoded": decoded, "grad": video.grad}
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        # Softmax does not see what is added to all keys: what is left of that gradient is rounding.
        if not name.endswith("to_k.bias"):
            found[name] = parameter.grad
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def _gradients_joined(found: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = [tensor.flatten() for name, tensor in found.items() if "." in name]
    whole = {name: tensor for name, tensor in found.items() if "." not in name}
    return {**whole, "gradients": torch.cat(parts)}


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("num_frames", [1, 20])
def test_a_reconstruction_and_its_gradients_are_those_of_the_cpu(
    vae: VideoVAE,
    device: torch.device,
    check_agreement: Callable[..., None],
    num_frames: int,
    dtype: torch.dtype,
    share: float,
) -> None:
    expected = _run(vae, _video(num_frames), torch.float32)
    actual = _run(vae.to(device), _video(num_frames).to(device), dtype)
    if dtype is torch.bfloat16:
        # What a norm hides from the loss has a small gradient, which in bf16 is mostly rounding.
        expected, actual = (_gradients_joined(found) for found in (expected, actual))
    check_agreement(actual, expected, share)


def test_streams_give_what_whole_clips_give(
    vae: VideoVAE, device: torch.device, check_agreement: Callable[..., None]
) -> None:
    video = _video(20)
    with torch.no_grad():
        z = vae.encode(video).mode()
        expected = {"z": z, "video": vae.decode(z, 20)}
        vae.to(device)
        parts = [part.to(device) for part in video.split(7, dim=2)]
        encoded = torch.cat([posterior.mode() for posterior in vae.encode_stream(parts)], dim=2)
        decoded = torch.cat(list(vae.decode_stream([z.to(device)], 20)), dim=2)
    check_agreement({"z": encoded, "video": decoded}, expected, 1e-4)


def test_bf16_weights_encode_and_decode(
    vae: VideoVAE, device: torch.device, check_agreement: Callable[..., None]
) -> None:
    video = _video(17)
    with torch.no_grad():
        z = vae.encode(video).mode()
        expected = {"z": z, "video": vae.decode(z, 17)}
        vae.to(device, torch.bfloat16)
        low = {"z": vae.encode(video.to(device, torch.bfloat16)).mode()}
        low["video"] = vae.decode(z.to(device, torch.bfloat16), 17)
    check_agreement(low, expected, 0.1)
