from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetoscope.config.load import (
    LoadedConfig,
    list_recipes,
    load_config,
    read_resolved,
    recipe_summary,
)
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, NotFoundError, UserError
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
        ("foo=1", "foo: unknown key; allowed here: cluster, encode_latents"),
        ("seed=-1", r"seed: Input should be greater than or equal to 0 \(given: -1\)"),
        ("seed=many", r"seed: .*valid integer.*\(given: 'many'\)"),
        ("train_vae.9.loop.num_steps=3", "'9' is no index of a list of 3; 0 to 2 are"),
        ("seed", "is not of the form a.b=value"),
        ("seed.x=1", "'seed' is the value 42 and has no keys"),
        ("seed=[1", "is not valid YAML"),
        ("runtimes.training.num_processes=3", "num_processes=3 must divide train_spatial_vae"),
        ("train_dit.0.sequence_parallel=2", "sequence_parallel=2 must divide runtimes.training"),
        (
            "runtimes.training.num_nodes=3",
            "num_nodes=3 x num_processes=1 must divide train_spatial",
        ),
        ("runtimes.other.num_processes=2", "only training runs on more than 1"),
        ("runtimes.other.num_nodes=2", "only training runs on more than 1"),
        ("spatial_weights=a.safetensors", "exactly one of train_spatial_vae and spatial_weights"),
        ("models.dit.text_width=32", "text_encoder.width=64 must equal dit.text_width=32"),
        ("models.dit.max_text_tokens=4", "must not be above dit.max_text_tokens=4"),
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
        ('seed="17"', r"seed: must be a number: write 17 without quotes \(given: '17'\)"),
        ("seed=17.0", r"seed: must be a whole number: write 17 \(given: 17\.0\)"),
        ("seed=1e23", "seed: must be a whole number"),
        (f"seed={10**23}", "seed: the value '1000+' is too large: whole numbers lie between"),
        ("seed=true", "seed: must be a number, not true or false"),
        ("seed=.inf", "seed: the value '.inf' is no finite number"),
        ("name=2024", 'name: must be text: put it in quotes, as "2024"'),
        ("name=true", 'name: must be text: put it in quotes, as "true"'),
        ("models.dit.mlp_ratio='4'", r"models\.dit\.mlp_ratio: must be a number: write 4 without"),
        ("models.dit.qk_norm=1", r"models\.dit\.qk_norm: must be true or false, without quotes"),
        ("models.dit.qk_norm='true'", r"models\.dit\.qk_norm: must be true or false"),
        ("models.text_encoder.kind=t6", r"models\.text_encoder: kind 't6' is none of"),
        (
            "train_dit={0: {loop: {}}}",
            r"train_dit: must be a list; numbers as keys change the",
        ),
        (
            "train_dit.0.plan.buckets.0.resolution=256",
            r'buckets\.0\.resolution: must be text: put it in quotes, as "256"',
        ),
        (
            "train_dit.0.plan.buckets.0.resolution={height: 32, widht: 32}",
            r"buckets\.0\.resolution\.widht: unknown key; did you mean 'width'",
        ),
        (
            "train_vae.2.loss.perceptual_weight=0.1",
            r"train_vae\.2\.loss\.perceptual_weight=0\.1 needs the file perceptual_weights_path",
        ),
        (".".join(["a"] * 50) + "=1", "is not of the form a.b=value"),
        ("se\udce9d=1", r"override 'se.+d=1' is not of the form a.b=value"),
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
        "extends: tiny\nmodels: {text_encoder: {kind: t5, path: /t5, max_tokens: 8}}\n"
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


def _loaded(folder: Path, **texts: str) -> LoadedConfig:
    """Write recipes by name and load the last."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return load_config(str(folder / f"{name}.yaml"))


def test_numbers_as_keys_change_items_of_the_lists_beneath(tmp_path: Path) -> None:
    loaded = _loaded(
        tmp_path,
        base="extends: tiny\ntrain_vae: {2: {loop: {num_steps: 3}}}\n",
        mine=(
            "extends: base.yaml\n"
            "train_vae:\n"
            "  0: {loop: {num_steps: 5, optimizer: {betas: {1: 0.5}}}}\n"
            "evaluate_vae: {gates: {0: {min: 6.0}}}\n"
            "train_dit: {0: {plan: {buckets: {0: {batch_size: 2}}}}}\n"
        ),
    )
    config, tiny = loaded.config, load_config("tiny").config
    assert [stage.loop.num_steps for stage in config.train_vae] == [5, 150, 3]
    assert config.train_vae[1] == tiny.train_vae[1]
    assert config.train_vae[0].plan == tiny.train_vae[0].plan
    assert config.train_vae[0].loop.optimizer.betas == (0.9, 0.5)
    assert config.evaluate_vae.gates[0].to_json() == {"metric": "vae.psnr", "min": 6, "max": None}
    assert [bucket.batch_size for bucket in config.train_dit[0].plan.buckets] == [2]
    origins = {path: origin for path, _, origin in loaded.rows()}
    assert origins["train_vae.0.loop.num_steps"] == "mine"
    assert origins["train_vae.2.loop.num_steps"] == "base"
    assert origins["train_vae.1.loop.num_steps"] == "tiny"
    assert origins["evaluate_vae.gates.0.metric"] == "tiny"
    assert origins["evaluate_vae.gates.0.min"] == "mine"
    assert origins["train_dit.0.plan.buckets.0.num_frames"] == "tiny"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train_dit: {1: {}}", r"line 2: train_dit\.1: '1' is no index of a list of 1; 0 to 0 are"),
        ("train_vae:\n  0: {}\n  x: {}", r"line 4: train_vae\.x: 'x' is no index of a list of 3"),
        ("train_vae: {loop: {}}", r"line 2: train_vae\.loop: 'loop' is no index"),
        (
            "train_vae:\n  1:\n    loop: {num_steps: 0}",
            r"line 4: train_vae\.1\.loop\.num_steps: .*",
        ),
        ("train_vae: {00: {}}", "line 2: train_vae: the key '00' is a number of another base"),
        ("train_vae: {'00': {}}", r"line 2: train_vae\.00: '00' is no index"),
        ("train_vae: {\u0661: {}}", r"line 2: train_vae\.\u0661: '\u0661' is no index"),
        ("train_vae: {}", "line 2: train_vae: must be a list"),
        ("seed: {0: 1}", r"line 2: seed: .* \(given: a mapping\)"),
    ],
)
def test_items_that_are_not_there_are_refused_where_they_stand(
    text: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.yaml, {told}"):
        _loaded(tmp_path, mine=f"extends: smoke\n{text}\n")


def test_what_two_files_and_an_override_contradict_is_told_with_each_place(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "extends: smoke\nprepare_data:\n  filters:\n    min_frames: 30\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "extends: base.yaml\n\nprepare_data: {filters: {max_frames: 20}}\n"
    )
    base, mine = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    with pytest.raises(
        ConfigError, match=f"{mine}, line 3 and {base}, line 4: prepare_data.filters"
    ):
        load_config(str(mine))
    with pytest.raises(
        ConfigError, match=r"--set and .*smoke\.yaml, line 13: the config: runtimes"
    ):
        load_config("smoke", ["runtimes.training.num_processes=3"])
    base.write_text("extends: smoke\nprepare_data:\n  filters:\n    min_frames: 0\n")
    with pytest.raises(ConfigError, match=f"  {base}, line 4: prepare_data.filters.min_frames: "):
        load_config(str(mine))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: [tiny]", "line 1: extends: must be one recipe, by name or path"),
        ("extends: 12", r"line 1: extends: must be one recipe, by name or path \(given: 12\)"),
        ("\nextends: huge", "line 2: extends: there is no recipe 'huge'"),
        ("extends: ../mine/mine.yaml", "line 1: extends: recipes extend each other in a circle"),
        ("", "holds nothing: a mapping of config keys is needed"),
    ],
)
def test_what_can_not_be_extended_is_refused_where_it_stands(
    text: str, told: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UserError, match=told):
        _loaded(folder, mine=text)


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
