"""Sizes that are sampled and measured, against those that are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.config.load import list_recipes, load_config
from kinetoscope.core.errors import ConfigError

TWO_BUCKETS = (
    "train_dit.0.plan.buckets=[{resolution: {height: 32, width: 32}, num_frames: 17}, "
    "{resolution: {height: 64, width: 64}, num_frames: 1}]"
)
NAMED = "train_dit.0.plan.buckets=[{resolution: 240p, num_frames: 51}]"


@pytest.mark.parametrize("recipe", list_recipes())
def test_the_recipes_sample_where_they_train(recipe: str) -> None:
    assert load_config(recipe).config


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["models.sample_size={height: 64, width: 64}"],
            "--set: models.sample_size: 64x64 pixels, but the last stage of the transformer trains "
            "at 32x32",
        ),
        (["models.sample_size.width=64"], "and --set: models.sample_size: 32x64 pixels, but"),
        (["models.sample_size={height: 16, width: 16}"], "models.sample_size: 16x16 pixels, but"),
        (
            ["models.sample_size.num_frames=33"],
            "models.sample_size.num_frames: 33 frames, but the last stage of the transformer "
            "trains on at most 17",
        ),
        # Images of 64x64 pixels say nothing of clips.
        ([TWO_BUCKETS, "models.sample_size={height: 64, width: 64}"], "64x64 pixels, but .* 32x32"),
        (
            ["train_dit.0.plan.buckets.0.keep_probability=0.5", NAMED],
            "models.sample_size: 32x32 pixels, but the last stage of .* trains at 240p",
        ),
        (
            ["evaluate_dit.rf_loss.sizes=[{num_frames: 17, height: 256, width: 256}]"],
            r"evaluate_dit\.rf_loss\.sizes\.0: 256x256 pixels, but the stages of the transformer",
        ),
        (
            ["evaluate_dit.rf_loss.sizes.0.num_frames=69"],
            r"evaluate_dit\.rf_loss\.sizes\.0: 69 frames, but clips of at most 17 are trained",
        ),
        (
            ["evaluate_vae.size={height: 256, width: 256}"],
            "evaluate_vae.size: 256x256 pixels, but the stages of the VAE train at 32x32",
        ),
    ],
)
def test_sizes_that_nothing_is_trained_for_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config("smoke", ["prepare_data.filters={}", "prepare_data.scenes={}", *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["models.sample_size.num_frames=9"],
        ["models.sample_size.num_frames=1"],
        [TWO_BUCKETS, "models.sample_size={num_frames: 1, height: 48, width: 48}"],
        [NAMED, "models.sample_size={num_frames: 51, height: 240, width: 424}",
         "evaluate_dit.rf_loss.sizes=[{num_frames: 51, height: 424, width: 240}]"],
        ["evaluate_dit.rf_loss.sizes=[{num_frames: 33, height: 64, width: 64}]"],
        ["evaluate_vae.size={num_frames: 51, height: 64, width: 64}"],
    ],
)  # fmt: skip
def test_sizes_between_and_near_the_trained_ones_are_fine(overrides: list[str]) -> None:
    assert load_config("smoke", ["prepare_data.filters={}", "prepare_data.scenes={}", *overrides])


def test_a_size_that_is_not_given_is_refused_where_the_config_would_have_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: smoke\n"
        "train_dit:\n"
        "  0: {plan: {buckets: [{resolution: {height: 64, width: 64}, num_frames: 17}]}}\n"
        "models:\n"
        "  sample_size: {height: 64}\n"
    )
    with pytest.raises(ConfigError, match=rf"{path}, line 5: models\.sample_size: 64x32 pixels"):
        load_config(str(path))


def test_what_changed_the_training_is_told_beside_the_size(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: smoke\ntrain_dit:\n  0: {plan: {buckets: {0: {num_frames: 9}}}}\n")
    told = rf"models\.sample_size\.num_frames: 17 frames, but .* at most 9 \({path}, line 3\)"
    with pytest.raises(ConfigError, match=told):
        load_config(str(path))
    with pytest.raises(ConfigError, match=r"at most 9 \(.*smoke.yaml, line \d+ and --set\)"):
        load_config("smoke", ["train_dit.0.plan.buckets.0.num_frames=9"])
