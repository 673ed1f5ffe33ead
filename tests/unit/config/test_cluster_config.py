"""What a run says of its pods: told by place where it is wrong, and no part of what a step is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetoscope.config.load import LoadedConfig, list_recipes, load_config, read_resolved
from kinetoscope.core.errors import ConfigError
from kinetoscope.runs.identity import identify
from kinetoscope.runs.steps import planned_steps

RECIPE = """
extends: smoke
cluster:
  training:
    gpus: 1
    memory: 64Gi
    labels: {example.com/cost: "42"}
    do_not_disrupt: false
  steps:
    train_dit_1:
      gpus: 2
      do_not_disrupt: true
      labels: {}
"""


DOCS = Path(__file__).parents[3] / "docs" / "cluster.md"


def _load(text: str, folder: Path, *overrides: str) -> LoadedConfig:
    recipe = folder / "my.yaml"
    recipe.write_text(text)
    return load_config(str(recipe), overrides)


def test_a_step_has_what_it_says_and_the_rest_from_training(tmp_path: Path) -> None:
    cluster = _load(RECIPE, tmp_path).config.cluster
    own, others = cluster.pod("train_dit_1"), cluster.pod("train_vae_1")
    assert (own.gpus, own.memory, own.do_not_disrupt, own.labels) == (2, "64Gi", True, {})
    assert others == cluster.training


def test_what_a_step_leaves_out_is_still_left_out_when_the_config_is_read_again(
    tmp_path: Path,
) -> None:
    config = _load(RECIPE, tmp_path).config
    again = read_resolved(json.dumps(config.to_json()).encode(), "stored")
    assert again == config
    assert again.cluster.pod("train_dit_1") == config.cluster.pod("train_dit_1")


def test_a_config_from_before_there_was_a_cluster_is_read() -> None:
    config = load_config("smoke").config
    stored = config.to_json()
    del stored["cluster"]
    assert read_resolved(json.dumps(stored).encode(), "stored") == config


def test_each_value_says_where_it_was_set(tmp_path: Path) -> None:
    loaded = _load(RECIPE, tmp_path, "cluster.training.cpu='8'")
    rows = {path: (value, origin) for path, value, origin in loaded.rows()}
    assert rows["cluster.training.cpu"] == ("8", "--set")
    assert rows["cluster.steps.train_dit_1.gpus"] == (2, "my")
    assert rows["cluster.training.shm"] == (None, "default")


def test_pods_are_no_part_of_what_a_step_is(tmp_path: Path) -> None:
    def fingerprints(config: LoadedConfig) -> dict[str, str]:
        steps = planned_steps(config.config)
        common = {"seed": 1, "data": "sha256:0"}
        found = {s.name: identify(s, **common, inputs={}, weights={}) for s in steps}  # type: ignore[arg-type]
        return {name: identity.fingerprint for name, identity in found.items()}

    assert fingerprints(_load(RECIPE, tmp_path)) == fingerprints(load_config("smoke"))


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_step_that_trains_can_be_named(recipe: str) -> None:
    config = load_config(recipe).config
    steps = [step.name for step in planned_steps(config) if step.name.startswith("train_")]
    assert [stage.step for stage in config.stages()] == steps
    for step in steps:
        load_config(recipe, [f"cluster.steps={{{step}: {{gpus: 0}}}}"])


@pytest.mark.parametrize("name", ["train_dit_2", "finish_run", "train_dit", "train_dit.0"])
def test_a_step_that_the_run_has_not_is_refused_with_those_that_it_has(
    tmp_path: Path, name: str
) -> None:
    text = RECIPE.replace("train_dit_1", name)
    with pytest.raises(ConfigError) as error:
        _load(text, tmp_path)
    assert f"cluster.steps.{name}: no step of this run; these are: " in str(error.value)
    assert "these are: ['train_spatial_vae', 'train_vae_1', " in str(error.value)
    assert "smoke.yaml" not in str(error.value), "nothing there is wrong"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("gpsu: 2", "line 11: cluster.steps.train_dit_1.gpsu: unknown key; did you mean 'gpus'?"),
        ("gpus: -2", "line 11: cluster.steps.train_dit_1.gpus: Input should be greater"),
        ("memory: 512m", "line 11: cluster.steps.train_dit_1.memory: String should match"),
        (
            "cpu: 8",
            'line 11: cluster.steps.train_dit_1.cpu: must be text: put it in quotes, as "8"',
        ),
        ("claims: {shm: /weights}", "claims: shm is the name of a volume of the chart's"),
        ("claims: {weights: /workspace/w}", "claims: /workspace/w is where pods have files"),
        ("claims: {weights: w}", "line 11: cluster.steps.train_dit_1.claims.weights: String"),
        ("env: {KINO_WORKSPACE: /x}", "KINO_WORKSPACE is set by Kubeflow Trainer or Kinetoscope"),
    ],
)
def test_a_wrong_value_is_told_with_file_line_and_key(
    tmp_path: Path, given: str, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        _load(RECIPE.replace("gpus: 2", given), tmp_path)
    assert told in str(error.value)
    assert "my.yaml, line 11" in str(error.value)


TWO_RANKS = "runtimes.training.num_processes=2"


@pytest.mark.parametrize(
    ("gpus", "of_step", "path"),
    [(1, 2, "cluster.training.gpus=1"), (2, 1, "cluster.steps.train_dit_1.gpus=1")],
)
def test_ranks_that_would_share_a_gpu_are_refused(
    tmp_path: Path, gpus: int, of_step: int, path: str
) -> None:
    text = RECIPE.replace("gpus: 2", f"gpus: {of_step}").replace(
        "\n    gpus: 1\n", f"\n    gpus: {gpus}\n"
    )
    with pytest.raises(ConfigError) as error:
        _load(text, tmp_path, TWO_RANKS)
    assert f"{path}: each of runtimes.training.num_processes=2 ranks" in str(error.value)


@pytest.mark.parametrize("gpus", ["0", "null", "2", "8"])
def test_ranks_have_a_gpu_each_or_none_at_all(tmp_path: Path, gpus: str) -> None:
    _load(RECIPE, tmp_path, TWO_RANKS, f"cluster.training.gpus={gpus}")


def test_the_example_of_the_docs_is_a_recipe(tmp_path: Path) -> None:
    text = DOCS.read_text().partition("# large.yaml\n")[2].partition("```")[0]
    cluster = _load(text, tmp_path).config.cluster
    assert cluster.pod("train_dit_1").queue is not None
    assert cluster.pod("train_dit_1").memory == cluster.training.memory
    assert cluster.pod("train_vae_1").memory != cluster.training.memory
