"""A video VAE starts from a file: of a spatial VAE, old names included, or of a whole video VAE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny.models import HALVING_VAE

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.tensor_files import open_weights
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.weights.open_sora.export import export_open_sora_vae
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.vae.start import start_video_vae


def vae(seed: int) -> VideoVAE:
    return initialised(lambda: VideoVAE(HALVING_VAE), seed)


def test_a_spatial_vae_is_set_and_the_rest_is_kept(tmp_path: Path) -> None:
    given, model, untouched = vae(1), vae(2), vae(2)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in given.spatial_vae.module.state_dict().items():
        for new, former in names.items():
            name = name.replace(f".{new}.", f".{former}.")
        old[name] = tensor.contiguous()
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors")
    assert start_video_vae(model, open_weights(tmp_path)).fits
    for name, tensor in model.state_dict().items():
        source = given if name.startswith("spatial_vae.") else untouched
        assert torch.equal(tensor, source.state_dict()[name]), name
    assert not torch.equal(
        given.state_dict()["spatial_vae.module.encoder.conv_in.weight"],
        untouched.state_dict()["spatial_vae.module.encoder.conv_in.weight"],
    )


def test_a_whole_video_vae_is_set(tmp_path: Path) -> None:
    given, model = vae(1), vae(2)
    export_open_sora_vae(given, tmp_path / "vae", max_shard_bytes=10_000)
    assert start_video_vae(model, open_weights(tmp_path / "vae")).fits
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, given.state_dict()[name]), name


def test_a_vae_of_another_size_is_refused() -> None:
    weights = vae(1).spatial_vae.module.state_dict()
    weights["encoder.conv_in.bias"] = torch.zeros(3)
    with pytest.raises(ConfigError, match=r"SpatialVAE: 1 of another shape \(encoder.conv_in.bias"):
        start_video_vae(vae(2), weights)
