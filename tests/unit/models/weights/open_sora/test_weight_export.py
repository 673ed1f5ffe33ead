"""Exported models are the released layout: they come back bit for bit, sharded or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny.models import spatial_vae, temporal_vae, transformer, video_vae
from torch import nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.tensor_files import open_weights
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.weights.open_sora.config import (
    transformer_config_from_open_sora,
    video_vae_config_from_open_sora,
)
from kinetoscope.models.weights.open_sora.export import (
    export_open_sora_transformer,
    export_open_sora_vae,
)
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer, load_open_sora_vae

DIT = transformer(
    qk_norm=False,
    predict_sigma=False,
    input_sq_size=256,
    final_layer_compat=False,
    rounding="bfloat16",
    trainable="temporal",
)
VAE = video_vae(
    spatial=spatial_vae(block_widths=(8, 8)),
    temporal=temporal_vae(multipliers=(1, 2), temporal_downsample=(True,)),
    chunk_frames=None,
    spatial_micro_batch=2,
    shift=(0.1, 0.2, 0.3, 0.4),
)


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.normal_()
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("max_shard_bytes", [1, 4096, 10**9])
def test_a_transformer_comes_back_bit_for_bit(max_shard_bytes: int, tmp_path: Path) -> None:
    model = STDiT(DIT)
    randomised(model)
    written = export_open_sora_transformer(model, tmp_path / "dit", max_shard_bytes=max_shard_bytes)
    assert sorted(written) == sorted((tmp_path / "dit").iterdir())
    config = json.loads((tmp_path / "dit" / "config.json").read_text())
    loaded = load_open_sora_transformer(open_weights(tmp_path / "dit"), config)
    assert loaded.config == DIT
    assert same(loaded, model)


@pytest.mark.parametrize("max_shard_bytes", [4096, 10**9])
def test_a_video_vae_comes_back_bit_for_bit(max_shard_bytes: int, tmp_path: Path) -> None:
    model = VideoVAE(VAE)
    randomised(model)
    export_open_sora_vae(model, tmp_path / "vae", max_shard_bytes=max_shard_bytes)
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    loaded = load_open_sora_vae(open_weights(tmp_path / "vae"), config)
    measured = tuple(model.shift.flatten().tolist())
    assert config["shift"] == list(measured)
    assert loaded.config.model_copy(update={"shift": VAE.shift, "scale": VAE.scale}) == VAE
    assert same(loaded, model)


def test_an_unchanged_normalisation_is_written_as_configured(tmp_path: Path) -> None:
    export_open_sora_vae(VideoVAE(VAE), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["shift"] == [0.1, 0.2, 0.3, 0.4]
    assert load_open_sora_vae(open_weights(tmp_path), config).config == VAE


def test_shards_are_as_hugging_face_writes_them(tmp_path: Path) -> None:
    model = STDiT(DIT)
    export_open_sora_transformer(model, tmp_path, max_shard_bytes=16384)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    state = model.state_dict()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state.values())
    assert index["weight_map"].keys() == state.keys()
    names = sorted(set(index["weight_map"].values()))
    count = len(names)
    assert count > 2
    assert names == [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    for name in names:
        with safe_open(tmp_path / name, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            held = list(file.keys())
        assert len(held) == 1 or sum(state[key].nbytes for key in held) <= 16384


def test_released_sizes_are_named_as_in_the_released_files(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = VideoVAE(VideoVAEConfig())
    assert sum(p.numel() for p in model.parameters()) == 393_341_007
    small = VideoVAE(VAE)
    export_open_sora_vae(small, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vae_temporal"]["type"] == "VAE_Temporal"
    assert config["vae_2d"]["block_out_channels"] == [8, 8]
    released = {
        "vae_2d": {
            "type": "VideoAutoencoderKL",
            "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
            "subfolder": "vae",
            "micro_batch_size": 4,
        },
        "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None},
        "micro_frame_size": 17,
        "shift": [-0.1, 0.34, 0.27, 0.98],
        "scale": [3.85, 2.32, 2.33, 3.06],
        "cal_loss": False,
        "freeze_vae_2d": False,
        "from_pretrained": None,
        "architectures": ["VideoAutoencoderPipeline"],
        "model_type": "VideoAutoencoderPipeline",
        "torch_dtype": "float32",
        "transformers_version": "4.36.2",
    }
    assert video_vae_config_from_open_sora(released) == VideoVAEConfig()


def test_what_the_reference_lacks_is_not_exported(tmp_path: Path) -> None:
    model = STDiT(DIT.model_copy(update={"temporal_position": "rope+sincos"}))
    with pytest.raises(ConfigError, match=r"temporal_position='rope\+sincos' can't be exported"):
        export_open_sora_transformer(model, tmp_path / "dit")
    spatial = VAE.spatial.model_copy(update={"scaling_factor": 0.13025})
    vae = VideoVAE(VAE.model_copy(update={"spatial": spatial}))
    with pytest.raises(ConfigError, match=r"scaling_factor=0.13025 can't be exported"):
        export_open_sora_vae(vae, tmp_path / "vae")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"old")
    with pytest.raises(ConfigError, match="is not empty"):
        export_open_sora_transformer(STDiT(DIT), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop_path": 0.1}, r"drop_path=0.1 is not supported, only 0.0"),
        ({"window_size": 4}, "unknown keys window_size"),
        ({"hidden_size": 17}, "STDiT3 config: value: .*width=17"),
        ({"depth": "many"}, "STDiT3 config: depth: "),
        ({"kinetoscope": {"width": 3}}, "unknown keys width"),
    ],
)
def test_transformer_configs_that_ask_for_more_are_refused(
    change: dict[str, object], message: str
) -> None:
    assert transformer_config_from_open_sora({}) == STDiTConfig()
    with pytest.raises(ConfigError, match=message):
        transformer_config_from_open_sora({"hidden_size": 32, "num_heads": 2, **change})


@pytest.mark.parametrize(
    ("spatial", "temporal", "message"),
    [
        ({"act_fn": "gelu"}, {}, "act_fn='gelu' is not supported"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 4}, {}, "down_block_types="),
        ({"use_quant_conv": False}, {}, "use_quant_conv=False is not supported"),
        ({}, {"activation_fn": "mish"}, "activation: Input should be"),
        ({}, {"spatial_downsample": [True]}, "unknown keys spatial_downsample"),
        ({}, {"temporal_downsample": [True]}, "temporal_downsample has 1 entries"),
        (None, {}, "vae_2d must be there"),
    ],
)
def test_vae_configs_that_ask_for_more_are_refused(
    spatial: dict[str, object] | None, temporal: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        video_vae_config_from_open_sora({"vae_2d": spatial, "vae_temporal": temporal})


def test_vae_defaults_are_the_reference_classes_own() -> None:
    config = video_vae_config_from_open_sora({"vae_2d": {}, "vae_temporal": {}})
    assert (config.chunk_frames, config.shift, config.scale) == (None, (0.0,) * 4, (1.0,) * 4)
    general = video_vae_config_from_open_sora(
        {
            "vae_2d": {"micro_batch_size": None},
            "vae_temporal": {
                "type": "VAE_Temporal",
                "embed_dim": 3,
                "latent_embed_dim": 5,
                "activation_fn": "relu",
            },
            "scale": 2.0,
        }
    )
    assert general.spatial_micro_batch is None
    assert general.scale == (2.0, 2.0, 2.0)
    assert general.temporal.temporal_downsample == (True, True, False)
    assert general.temporal.in_channels == 4
    assert general.temporal.inner_channels == 5
    assert general.temporal.activation == "relu"
