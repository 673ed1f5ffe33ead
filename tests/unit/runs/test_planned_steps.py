"""The steps of a run, and which of their settings their results depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny.steps import commit

from kinetoscope.config.load import load_config
from kinetoscope.core.code_version import sources_digest
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.runs.identity import identify, weights_digests
from kinetoscope.runs.steps import planned_step, planned_steps
from kinetoscope.storage.open import open_store

STEP = "train_dit_1"


def test_the_pipeline_has_every_step_of_the_design() -> None:
    assert [step.name for step in planned_steps(load_config("tiny").config)] == [
        "prepare_data",
        "train_spatial_vae",
        "train_vae_1",
        "train_vae_2",
        "train_vae_3",
        "evaluate_vae",
        "encode_latents",
        "train_dit_1",
        "evaluate_dit",
        "register_model",
    ]
    faithful = [step.name for step in planned_steps(load_config("open-sora-1.2").config)]
    assert "train_spatial_vae" not in faithful
    assert faithful[-5:-2] == ["train_dit_1", "train_dit_2", "train_dit_3"]
    with pytest.raises(NotFoundError, match="no step 'train_dit_2'"):
        planned_step(load_config("tiny").config, "train_dit_2")


def identity(overrides: list[str], step: str = "train_dit_1", **changes: Any) -> str:
    config = load_config("tiny", overrides).config
    values: dict[str, Any] = {"seed": config.seed, "data": "", "inputs": {}, "weights": {}}
    return identify(planned_step(config, step), **values | changes).fingerprint


@pytest.mark.parametrize(
    "override",
    [
        "train_dit.0.loop.checkpoint_every_steps=7",
        "train_dit.0.loop.engine=colossalai_ddp",
        "models.dit.activation_checkpointing=full",
        "runtimes.training.num_processes=4",
        "train_dit.0.sequence_parallel=2",
    ],
)
def test_settings_that_change_no_result_are_no_part_of_a_step(override: str) -> None:
    loops = ("train_spatial_vae", "train_vae.0", "train_vae.1", "train_vae.2", "train_dit.0")
    base = [f"{loop}.loop.micro_batches_per_step=4" for loop in loops]
    base.append("runtimes.training.num_processes=2")
    assert identity([*base, override]) == identity(base)


def test_settings_seed_data_and_inputs_are_part_of_a_step(
    tmp_path: Path,
) -> None:
    changed = {
        identity([]),
        identity(["train_dit.0.loop.num_steps=7"]),
        identity([], seed=8),
        identity([], data="sha256:1"),
    }
    assert len(changed) == 4
    uris = [f"{tmp_path.as_uri()}/steps/prepare_data/{number}" for number in range(2)]
    for number, uri in enumerate(uris):
        open_store(uri).put_bytes("outputs/clips", str(number).encode())
        commit(uri, {"clips": "outputs/clips"})
    one, other = (identity([], inputs={"clips": uri}) for uri in uris)
    assert one != other


def test_the_precision_is_part_of_what_is_generated_and_measured_in_it() -> None:
    exact = ["models.precision=fp32"]
    for step in ("evaluate_vae", "evaluate_dit"):
        assert identity(exact, step) != identity([], step) == identity([], step)
    for step in ("train_dit_1", "encode_latents"):
        assert identity(exact, step) == identity([], step)
    assert identity(["encode_latents.dtype=fp32"], "encode_latents") != identity(
        [], "encode_latents"
    )


def test_weights_count_by_their_content_and_not_by_their_path(tmp_path: Path) -> None:
    for name, content in {"one": b"1", "moved": b"1", "other": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)

    def with_weights(name: str) -> str:
        path = str(tmp_path / name)
        step = planned_step(load_config("tiny", [f"train_dit.0.init_weights={path}"]).config, STEP)
        weights = weights_digests([step.piece], tmp_path / "digests.json")
        assert weights.keys() == {path}
        return identity([f"train_dit.0.init_weights={path}"], weights=weights)

    assert with_weights("one") == with_weights("moved")
    assert with_weights("one") != with_weights("other")
    with pytest.raises(ConfigError, match="absent"):
        with_weights("absent")


def test_sources_count_in_a_checkout_and_not_in_an_installed_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = identity([])
    monkeypatch.setenv("KINO_CACHE_SOURCES", "1")
    assert identity([]) == here
    monkeypatch.setenv("KINO_CACHE_SOURCES", "0")
    assert identity([]) != here
    assert sources_digest("kinetoscope.core.hashing") == ""


def test_a_raised_revision_is_another_step(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity([])
    monkeypatch.setattr(STDiTConfig, "revision", 2)
    assert identity([]) != before
    assert identity([], "encode_latents") == identity([], "encode_latents")
    monkeypatch.undo()
    step = planned_step(load_config("tiny").config, STEP)
    told: dict[str, Any] = {"seed": 1, "data": "", "inputs": {}, "weights": {}}
    raised = replace(step, revision=step.revision + 1)
    assert identify(step, **told).fingerprint != identify(raised, **told).fingerprint
