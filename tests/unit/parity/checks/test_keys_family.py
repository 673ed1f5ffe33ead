"""The family ``keys`` on configs of any kind, and on files that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.models.weights.open_sora.config import temporal_vae_config_from_open_sora
from kinetoscope.parity.checks.keys import check_keys
from kinetoscope.parity.compare import CaseResult
from kinetoscope.parity.golden import GoldenFile

TEMPORAL = {
    "filters": 6,
    "num_res_blocks": 1,
    "channel_multipliers": [1, 2],
    "temporal_downsample": [True],
    "num_groups": 3,
}
SPATIAL = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}


def check(**data: Any) -> dict[str, CaseResult]:
    return {row.case: row for row in check_keys(GoldenFile("a.json", "keys", data=data))}


def test_the_larger_model_has_the_counts_of_the_paper() -> None:
    rows = check(
        config={"hidden_size": 1872, "num_heads": 26}, total_parameters=3_182_211_572, num_keys=973
    )
    assert all(row.ok for row in rows.values())


def test_what_is_trained_is_counted() -> None:
    config = {"only_train_temporal": True}
    assert check(config=config, trainable_parameters=595_159_488)["trainable_parameters"].ok


def test_a_wrong_shape_count_or_name_fails() -> None:
    model = TemporalVAE(temporal_vae_config_from_open_sora(TEMPORAL))
    keys = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert check(config=TEMPORAL, keys=keys)["keys"].ok
    first = next(iter(keys))
    wrong = check(config=TEMPORAL, keys=keys | {first: [1]}, num_keys=len(keys) - 1)
    assert not wrong["keys"].ok
    assert first in wrong["keys"].detail
    assert not wrong["num_keys"].ok
    assert not check(config=TEMPORAL, keys=keys | {"other": [1]})["keys"].ok


@pytest.mark.parametrize(
    "described",
    [
        TEMPORAL,
        "VAE_Temporal: filters 6, num_res_blocks 1, channel_multipliers (1,2), "
        "temporal_downsample (True,), num_groups 3",
    ],
)
def test_a_pipeline_is_described_in_keys_or_in_words(described: object) -> None:
    rows = check(
        model="VideoAutoencoderPipeline",
        vae_2d_config=SPATIAL,
        vae_temporal=described,
        micro_frame_size=9,
        micro_z_frame_size=5,
        shift=[0.5] * 4,
        scale=[2.0] * 4,
        buffers_in_state_dict=["shift", "scale"],
    )
    assert all(row.ok for row in rows.values())
    assert len(rows) == 5


def test_the_released_pipelines_normalisation_is_ours_to_know() -> None:
    given = {"vae_2d_config": SPATIAL, "vae_temporal": TEMPORAL, "shift": [0.5] * 4}
    assert not check(model="OpenSoraVAE_V1_2", **given)["shift"].ok


def test_fresh_zeros_that_the_reference_lacks_are_seen() -> None:
    fact = "zero_initialised_weights_depth2"
    names = ["fps_embedder.mlp.2.weight"]
    for index in range(2):
        layers = ("attn.proj", "cross_attn.proj", "mlp.fc2")
        names += [f"temporal_blocks.{index}.{layer}.weight" for layer in layers]
    assert check(config={"depth": 9}, **{fact: names})[fact].ok
    assert not check(config={"depth": 9}, **{fact: names[:-1]})[fact].ok


def test_a_field_that_is_not_understood_fails() -> None:
    row = check(config={}, flops=12)["flops"]
    assert not row.ok
    assert "not understood" in row.detail
