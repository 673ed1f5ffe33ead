"""The steps of a run, and which of their settings their results depend on."""

from __future__ import annotations

import pytest

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import NotFoundError
from kinetoscope.runs.identity import content
from kinetoscope.runs.steps import planned_step, planned_steps


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


def test_settings_that_change_no_result_are_not_content() -> None:
    plain = planned_step(load_config("tiny").config, "train_dit_1").piece.to_json()
    faster = load_config("tiny", ["train_dit.0.loop.checkpoint_every_steps=7"]).config
    other = load_config("tiny", ["train_dit.0.loop.num_steps=7"]).config
    assert content(planned_step(faster, "train_dit_1").piece.to_json()) == content(plain)
    assert content(planned_step(other, "train_dit_1").piece.to_json()) != content(plain)
    with pytest.raises(NotFoundError, match="no step 'train_dit_2'"):
        planned_step(faster, "train_dit_2")


def test_the_engine_is_no_part_of_what_a_step_makes() -> None:
    given, other = (
        planned_step(load_config("smoke", overrides).config, "train_dit_1").piece.to_json()
        for overrides in ([], ["train_dit.0.loop.engine=colossalai_ddp"])
    )
    assert given != other
    assert content(given) == content(other)
