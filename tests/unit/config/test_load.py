from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetoscope.config.load import (
    json_schema,
    list_recipes,
    load_config,
    read_resolved,
    recipe_summary,
)
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.runs.steps import planned_steps


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_recipe_parses_says_what_it_is_and_survives_json(recipe: str) -> None:
    config = load_config(recipe).config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert recipe_summary(recipe)
    names = [step.name for step in planned_steps(config)]
    for step in planned_steps(config):
        assert all(names.index(up) < names.index(step.name) for up in step.inputs.values())


@pytest.mark.parametrize(
    ("recipe", "adherence", "champion"),
    [
        ("tiny", True, ["adherence.all", "rf_loss.mean"]),
        ("smoke", True, ["adherence.all", "rf_loss.mean"]),
        ("open-sora-1.2", False, ["rf_loss.mean"]),
    ],
)
def test_only_the_recipes_of_moving_shapes_ask_for_adherence(
    recipe: str, adherence: bool, champion: list[str]
) -> None:
    config = load_config(recipe).config
    assert config.evaluate_dit.measures_adherence is adherence
    assert [rule.metric for rule in config.register_model.champion] == champion
    assert config.register_model.champion[-1].direction == "min"


def test_an_override_changes_just_its_value_and_says_so() -> None:
    plain = load_config("tiny")
    loaded = load_config("tiny", ["train_vae.1.loop.num_steps=7"])
    assert loaded.config.train_vae[1].loop.num_steps == 7
    assert loaded.config.train_vae[0] == plain.config.train_vae[0]
    assert loaded.config.train_vae[2] == plain.config.train_vae[2]
    assert loaded.origins["train_vae.1.loop.num_steps"] == "--set"
    assert loaded.origins["train_vae.0.loop.num_steps"] == "tiny"
    rows = {path: origin for path, _, origin in loaded.rows()}
    assert rows["seed"] == "tiny"
    assert rows["prepare_data.limits.min_frames"] == "default"


def test_what_a_yaml_alias_shares_is_overridden_alone() -> None:
    config = load_config("smoke", ["train_vae.0.loop.num_steps=3"]).config
    assert [stage.loop.num_steps for stage in config.train_vae] == [3, 8, 8]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_vae.0.loop.num_step=3", r"num_step: unknown key; did you mean 'num_steps'\?"),
        ("foo=1", "foo: unknown key; allowed here: encode_latents"),
        ("seed=-1", r"seed: Input should be greater than or equal to 0 \(given: -1\)"),
        ("seed=many", r"seed: .*valid integer.*\(given: 'many'\)"),
        ("train_vae.9.loop.num_steps=3", "'9' is no index of a list of 3; 0 to 2 are"),
        ("seed", "is not of the form a.b=value"),
        ("seed.x=1", "'seed' is the value 42 and has no keys"),
        ("seed=[1", "is not valid YAML"),
        ("runtimes.training.num_processes=3", "num_processes=3 must divide train_spatial_vae"),
        ("train_dit.0.sequence_parallel=2", "sequence_parallel=2 must divide runtimes.training"),
        ("runtimes.other.num_processes=2", "only training runs on more than 1"),
        ("spatial_weights=a.safetensors", "exactly one of train_spatial_vae and spatial_weights"),
        ("models.dit.text_width=32", "text_encoder.width=64 must equal dit.text_width=32"),
        ("train_vae=[]", "train_vae: .*at least 1"),
        ("models.sample_size.height=30", "models.sample_size: 30x32 pixels; .*multiples of 4"),
        ("train_vae.2.plan.width=33", r"train_vae\.2\.plan: 32x33 pixels"),
        (
            "train_dit.0.plan.buckets.0.resolution.height=34",
            r"train_dit\.0\.plan\.buckets\.0\.resolution: 34x32 pixels",
        ),
        (
            "train_dit.0.plan.buckets.0.resolution.height=36",
            "36x32 pixels; .*patches of 8x8 pixels, and training wants whole ones",
        ),
        (
            "train_vae.0.plan.num_frames=100",
            r"train_vae\.0\.plan\.num_frames needs clips of 100 frames, but "
            r"prepare_data\.filters\.max_frames=60 leaves none so long",
        ),
        (
            "prepare_data.filters.max_frames=16",
            "max_frames 16 is below min_frames 17: no clip fits",
        ),
        (
            "prepare_data.scenes.max_scene_frames=16",
            r"train_dit\.0\.plan\.buckets needs clips of 17 frames",
        ),
        (
            "train_dit.0.init_format=diffusers",
            r"train_dit\.0: init_format='diffusers' is none of \['auto', 'stdit', 'pixart'\]",
        ),
        ("models.vae.depth=3", "models.vae.depth: unknown key; allowed here: chunk_frames, kind, "),
    ],
)
def test_a_bad_value_is_refused_with_key_value_and_what_is_allowed(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("smoke", [override])


def test_recipes_extend_files_and_each_other(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: tiny\nseed: 3\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: base.yaml\nname: mine\nmodels: {dit: {depth: 2}}\n"
    )
    loaded = load_config(str(tmp_path / "mine.yaml"))
    mine, tiny = loaded.config.models.dit, load_config("tiny").config.models.dit
    assert (loaded.config.seed, mine.to_json()["depth"]) == (3, 2)
    assert mine.to_json()["width"] == tiny.to_json()["width"]
    assert loaded.origins["seed"] == "base"
    assert loaded.origins["models.dit.depth"] == "mine"
    assert loaded.origins["models.dit.width"] == "tiny"


@pytest.mark.parametrize("width", ["width: 48", "kind: stdit, width: 48"])
def test_the_default_kind_may_be_named_in_what_extends_a_recipe(tmp_path: Path, width: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: tiny\nmodels: {{dit: {{{width}}}}}\n")
    loaded = load_config(str(tmp_path / "mine.yaml"))
    tiny = load_config("tiny").config.models.dit.to_json()
    assert loaded.config.models.dit.to_json() == tiny | {"width": 48}
    assert loaded.origins["models.dit.depth"] == "tiny"


def test_what_was_replaced_whole_is_no_origin(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: tiny\nmodels: {text_encoder: {kind: t5, path: /t5}}\n"
    )
    override = "prepare_data={filters: {min_frames: 17}}"
    loaded = load_config(str(tmp_path / "mine.yaml"), ["models.dit.text_width=4096", override])
    origins = {path: origin for path, _, origin in loaded.rows()}
    assert origins["models.text_encoder.path"] == "mine"
    assert origins["prepare_data.filters.min_frames"] == "--set"
    assert origins["prepare_data.filters.max_frames"] == "default"


def test_a_resolved_config_of_another_version_is_refused_with_what_is_wrong() -> None:
    resolved = load_config("smoke").config.to_json()
    assert read_resolved(json.dumps(resolved).encode(), "it") == load_config("smoke").config
    resolved["evaluate_vae"]["gate"] = {"psnr_min": 20}
    with pytest.raises(ConfigError, match=r"(?s)^it is .*evaluate_vae\.gate: unknown key.*gates"):
        read_resolved(json.dumps(resolved).encode(), "it")


def test_a_gate_on_a_score_that_is_not_measured_is_refused() -> None:
    gates = "register_model.gates=[{metric: adherence.all, min: 0.5}]"
    assert load_config("smoke", [gates]).config.register_model.gates
    for off in ("evaluate_dit.adherence=null", "evaluate_dit.adherence.enabled=false"):
        with pytest.raises(ConfigError, match=r"register_model\.gates\.0: adherence\.all can't be"):
            load_config("smoke", [gates, off])


def test_recipes_in_a_circle_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        load_config(str(tmp_path / "a.yaml"))
    with pytest.raises(NotFoundError, match="no recipe 'huge'") as caught:
        load_config("huge")
    assert "smoke" in (caught.value.hint or "")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="a mapping"):
        load_config(str(tmp_path / "list.yaml"))


def test_the_schema_names_every_key() -> None:
    schema = json_schema()
    assert set(RunConfig.model_fields) | {"extends"} == set(schema["properties"])
    assert "required" not in schema
