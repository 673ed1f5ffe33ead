"""A stage of the VAE with a discriminator, cut short and resumed on 2 real ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.models.vae.config import SpatialVAEConfig
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.contract import RESULT_KEY, RuntimeConfig, StepSpec, read_result
from kinetoscope.steps.execute import execute
from kinetoscope.storage.open import open_store
from kinetoscope.training.loop.initial import initialised

ROOT = Path(__file__).resolve().parents[2]
SPATIAL = {"block_widths": [8, 8], "layers_per_block": 1, "norm_groups": 4}
CONFIG = {
    "model": {
        "spatial": SPATIAL,
        "temporal": {
            "base_width": 8,
            "multipliers": [1, 1],
            "num_res_blocks": 1,
            "temporal_downsample": [True],
            "norm_groups": 4,
        },
    },
    "objective": "pixels",
    "freeze_spatial": False,
    "loss": {"perceptual_weight": 0, "reduction": "mean", "learn_logvar": True},
    "adversarial": {
        "discriminator": {"kind": "patch2d", "base_width": 8, "num_layers": 2},
        "start_step": 1,
        "lecam_weight": 0.1,
        "gradient_penalty_weight": 0.1,
        "lr": 2e-3,
    },
    "plan": {"num_frames": 4, "height": 16, "width": 16, "batch_size": 2},
    "loop": {
        "num_steps": 6,
        "micro_batches_per_step": 2,
        "optimizer": {"lr": 1e-3},
        "ema_decay": 0.9,
        "checkpoint_every_steps": 3,
        "log_every_steps": 1,
    },
}


def _final(spec: StepSpec) -> Checkpoint:
    result = read_result(spec.uri)
    assert result is not None
    return read_checkpoint(open_store(result.artifact("checkpoint").uri))


def test_a_resumed_game_ends_with_the_same_bits(
    tmp_path: Path,
    commit_clips: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    spatial = initialised(lambda: SpatialVAE(SpatialVAEConfig.model_validate(SPATIAL)), 0)
    weights = {name: tensor.contiguous() for name, tensor in spatial.state_dict().items()}
    save_file(weights, tmp_path / "spatial.safetensors")
    spec = StepSpec(
        name="train_vae_1",
        worker="kinetoscope.training.vae.train_vae",
        run_id="raaaaaaa",
        root_uri=(tmp_path / "objects").as_uri(),
        config=CONFIG | {"spatial_weights": str(tmp_path / "spatial.safetensors")},
        seed=5,
        inputs={"clips": commit_clips(tmp_path)},
        fingerprint="0",
        runtime=RuntimeConfig(num_processes=2, threads_per_process=1, max_restarts=0),
    )
    execute(spec)
    expected = _final(spec)
    assert expected.tensors.keys() == {"weights", "optimizer", "ema", "adversary", "logvar"}
    assert expected.tensors["adversary"]["losses.averages.real"] != 0
    # As if the attempt had died after its third step.
    store = open_store(spec.uri)
    store.delete(RESULT_KEY)
    store.delete_prefix(list_checkpoints(store)[-1])
    execute(spec)
    assert "resumed from step 3" in store.get_bytes("logs/000002/rank-0.log").decode()
    found = _final(spec)
    for group, tensors in expected.tensors.items():
        assert found.tensors[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found.tensors[group][name], tensor), (group, name)
