"""Loading others' weights: what fits loads bit for bit, what does not is told and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny.models import SPATIAL_VAE, transformer
from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import SpatialVAEConfig
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.models.weights.load import load_weights
from kinetoscope.models.weights.open_sora.load import (
    load_open_sora_transformer,
    load_open_sora_vae,
    load_spatial_vae,
    load_temporal_vae,
)
from kinetoscope.models.weights.report import Mismatch, compare_weights

GOLDEN = Path(__file__).parents[3] / "golden" / "reference"
TINY = transformer()


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a golden file's weights and config."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("weights/")]  # noqa: SIM118
        weights = {name.removeprefix("weights/"): file.get_tensor(name) for name in names}
        return weights, json.loads(file.metadata()["config"])


def equal(model: nn.Module, weights: dict[str, Tensor]) -> bool:
    state = model.state_dict()
    return state.keys() == weights.keys() and all(
        torch.equal(tensor, weights[name]) for name, tensor in state.items()
    )


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("stdit3_main", load_open_sora_transformer),
        ("stdit3_variant", load_open_sora_transformer),
        ("rflow_e2e", load_open_sora_transformer),
        ("vae_temporal", load_temporal_vae),
        ("vae_pipeline", load_open_sora_vae),
    ],
)
def test_reference_weights_load_with_the_reference_config(
    name: str, load: Callable[..., nn.Module]
) -> None:
    weights, config = golden(name)
    model = load(weights, config)
    assert equal(model, weights)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    wrapped = {f"module.{key}": tensor for key, tensor in weights.items()}
    assert equal(load(wrapped, config), weights)


def test_parts_of_a_whole_video_vae_load_alone() -> None:
    weights, config = golden("vae_pipeline")
    spatial = load_spatial_vae(weights, config["vae_2d"]).state_dict()
    temporal = load_temporal_vae(weights, config["vae_temporal"]).state_dict()
    parts = {f"spatial_vae.module.{key}": tensor for key, tensor in spatial.items()}
    parts |= {f"temporal_vae.{key}": tensor for key, tensor in temporal.items()}
    assert parts.keys() == weights.keys() - {"shift", "scale"}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in parts.items())


def test_loading_keeps_memory_format_and_frozen_parameters() -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    weights = {name: torch.randn(tensor.shape) for name, tensor in layer.state_dict().items()}
    load_weights(layer, weights)
    assert torch.equal(layer.weight, weights["weight"])
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    transformer = load_open_sora_transformer(
        STDiT(TINY).state_dict(), TINY.model_copy(update={"trainable": "temporal"})
    )
    trained = {name for name, p in transformer.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("temporal_blocks.") for name in trained)


def test_what_the_config_determines_may_be_missing() -> None:
    weights, config = golden("stdit3_main")
    standard = weights.pop("rope.freqs")
    assert torch.allclose(load_open_sora_transformer(weights, config).rope.freqs, standard)

    weights, config = golden("vae_pipeline")
    del weights["shift"], weights["scale"]
    vae = load_open_sora_vae(weights, config)
    assert vae.shift.flatten().tolist() == pytest.approx(config["pipeline"]["shift"])
    assert vae.scale.flatten().tolist() == pytest.approx(config["pipeline"]["scale"])


def test_given_shift_and_scale_replace_those_of_the_config() -> None:
    weights, config = golden("vae_pipeline")
    weights["shift"] = torch.tensor(0.5)
    weights["scale"] = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1, 1)
    vae = load_open_sora_vae(weights, config)
    assert vae.config.shift == (0.5, 0.5, 0.5, 0.5)
    assert torch.equal(vae.shift.flatten(), torch.full((4,), 0.5))
    assert vae.config.scale == (1.0, 2.0, 3.0, 4.0)
    weights["scale"] = torch.ones(3)
    with pytest.raises(ConfigError, match="scale has 3 values for 4 channels"):
        load_open_sora_vae(weights, config)


def test_differences_are_listed_and_refused_unless_allowed() -> None:
    state = STDiT(TINY).state_dict()
    state["extra"] = state.pop("t_block.1.bias")
    state["x_embedder.proj.bias"] = torch.zeros(3)

    report = compare_weights(STDiT(TINY).state_dict(), state)
    assert report.missing == ("t_block.1.bias",)
    assert report.unexpected == ("extra",)
    assert report.mismatched == (Mismatch("x_embedder.proj.bias", (3,), (16,)),)
    with pytest.raises(ConfigError) as caught:
        load_open_sora_transformer(state, TINY)
    assert caught.value.message == (
        "the weights do not fit STDiT: 1 missing (t_block.1.bias); 1 unexpected (extra); "
        "1 of another shape (x_embedder.proj.bias [3] for [16])"
    )
    with pytest.raises(ConfigError, match=r"STDiT: 1 of another shape \("):
        load_open_sora_transformer(state, TINY, allow={"missing", "unexpected"})

    model = load_open_sora_transformer(state, TINY, allow={"missing", "unexpected", "mismatched"})
    assert torch.equal(model.t_block[1].weight, state["t_block.1.weight"])  # type: ignore[arg-type]
    assert not any(tensor.is_meta for tensor in model.parameters())
    assert torch.count_nonzero(model.t_block[1].bias) == 0  # type: ignore[arg-type]  # its initial value


def test_long_lists_show_the_first_names_and_the_count() -> None:
    with pytest.raises(ConfigError) as caught:
        load_open_sora_transformer({}, TINY)
    assert "STDiT: 54 missing (" in caught.value.message
    assert caught.value.message.count(",") == 5
    assert caught.value.message.endswith(", ...)")


def test_weights_that_do_not_fit_leave_the_model_alone() -> None:
    model = STDiT(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    del state["t_block.1.bias"]
    with pytest.raises(ConfigError, match="1 missing"):
        load_weights(model, state)
    assert equal(model, before)


def test_other_floating_point_types_are_converted_and_integers_refused() -> None:
    state = STDiT(TINY).state_dict()
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    loaded = load_open_sora_transformer(halves, TINY).state_dict()
    assert loaded["t_block.1.weight"].dtype == torch.float32
    assert torch.equal(loaded["t_block.1.weight"], halves["t_block.1.weight"].float())
    state["t_block.1.bias"] = torch.zeros(96, dtype=torch.int64)
    with pytest.raises(
        ConfigError, match=r"t_block.1.bias is torch.int64, the model's is torch.float32"
    ):
        load_open_sora_transformer(state, TINY)


def test_spatial_vaes_with_old_names_load() -> None:
    own = load_spatial_vae(_random_spatial(SPATIAL_VAE), SPATIAL_VAE).state_dict()
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in own.items():
        for new, former in names.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(f".{new}.", f".{former}.")
                if name.endswith("weight"):
                    tensor = tensor[:, :, None, None]
        old[name] = tensor
    assert any("proj_attn" in name for name in old)
    assert equal(load_spatial_vae(old, SPATIAL_VAE), own)


def _random_spatial(config: SpatialVAEConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return SpatialVAE(config).state_dict()
