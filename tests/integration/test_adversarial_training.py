"""A stage of the VAE with a discriminator, cut short and resumed on 2 real ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny.ledgers import rewind
from tiny.models import HALVING_VAE
from tiny.steps import ranks, step_spec

from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.contract import RESULT_KEY, StepSpec
from kinetoscope.steps.execute import execute
from kinetoscope.steps.ledger.entries import Saved
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.results import read_result
from kinetoscope.storage.open import open_store
from kinetoscope.training.loop.initial import initialised

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model": HALVING_VAE.to_json(),
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
    return read_checkpoint(open_store(result.artifact_uri("checkpoint")))


@pytest.mark.slow
def test_a_resumed_game_ends_with_the_same_bits(
    tmp_path: Path,
    commit_clips: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    spatial = initialised(lambda: SpatialVAE(HALVING_VAE.spatial), 0)
    weights = {name: tensor.contiguous() for name, tensor in spatial.state_dict().items()}
    save_file(weights, tmp_path / "spatial.safetensors")
    spec = step_spec(
        "train_vae_1",
        "kinetoscope.training.vae.train_vae",
        (tmp_path / "objects").as_uri(),
        CONFIG | {"spatial_weights": str(tmp_path / "spatial.safetensors")},
        inputs={"clips": commit_clips(tmp_path)},
        runtime=ranks(2),
    )
    execute(spec)
    expected = _final(spec)
    assert expected.tensors.keys() == {"weights", "optimizer", "ema", "adversary", "logvar"}
    assert expected.tensors["adversary"]["losses.averages.real"] != 0
    # As if the attempt had died after its third step.
    store = open_store(spec.uri)
    store.delete(RESULT_KEY)
    entries = list(Ledger(store).entries())
    last = next(e.number for e in reversed(entries) if isinstance(e.what, Saved))
    store.delete_prefix(list_checkpoints(store)[-1])
    rewind(store, last - 1)
    execute(spec)
    assert "resumed from step 3" in store.get_bytes("attempts/000002/logs/rank-0.log").decode()
    found = _final(spec)
    for group, tensors in expected.tensors.items():
        assert found.tensors[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found.tensors[group][name], tensor), (group, name)
