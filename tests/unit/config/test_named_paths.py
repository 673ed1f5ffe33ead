"""The paths that a config names: all are marked, and looked at before a run begins."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import kinetoscope
from kinetoscope.config.load import load_config
from kinetoscope.config.paths import check_paths, named_paths
from kinetoscope.core.config_model import Config, Effect
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.settings import Workspace
from kinetoscope.pipelines.local import create_run

# Texts by names like these are paths. What a user asks of one generated clip is no config of a run.
_PATH_NAME = re.compile(r"(^|_)(path|paths|file|files|folder|dir|directory|weights|checkpoint)$")


def _config_classes() -> Iterator[type[Config]]:
    for module in pkgutil.walk_packages(kinetoscope.__path__, "kinetoscope."):
        if module.name.endswith(".config"):
            importlib.import_module(module.name)
    pending: list[type[Config]] = [Config]
    while pending:
        found = pending.pop().__subclasses__()
        pending += found
        yield from found


def test_every_field_that_is_a_path_is_marked_as_one() -> None:
    unmarked: list[str] = []
    marked: list[str] = []
    for config in _config_classes():
        for name, field in config.model_fields.items():
            if config.__module__.startswith("kinetoscope.kube") or not _PATH_NAME.search(name):
                continue
            is_marked = Effect.FILES in field.metadata
            (marked if is_marked else unmarked).append(f"{config.__name__}.{name}")
    assert unmarked == []
    assert {"AdversarialConfig.weights", "T5Config.path", "DiTStage.init_weights"} <= set(marked)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(8, np.float32)}, path)
    return path


@pytest.fixture
def t5(tmp_path: Path, weights: Path) -> Path:
    """Return a folder with the files of a T5 encoder of width 64."""
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"d_model": 64}))
    (folder / "spiece.model").touch()
    (folder / "model.safetensors").write_bytes(weights.read_bytes())
    return folder


def _recipe(folder: Path, *, weights: Path | str, t5: Path | str, width: int = 64) -> str:
    path = folder / "mine.yaml"
    path.write_text(
        "extends: smoke\n"
        f"models: {{text_encoder: {{kind: t5, path: {t5}, width: {width}, max_tokens: 8}}}}\n"
        "evaluate_vae:\n"
        f"  lpips_weights: {weights}\n"
        "train_dit:\n"
        f"  0: {{init_weights: {weights}}}\n"
    )
    return str(path)


def test_files_of_the_right_form_pass(tmp_path: Path, weights: Path, t5: Path) -> None:
    loaded = load_config(_recipe(tmp_path, weights=weights, t5=t5))
    check_paths(loaded)
    assert {".".join(keys): path for keys, _, path in named_paths(loaded.config)} == {
        "models.text_encoder.path": str(t5),
        "evaluate_vae.lpips_weights": str(weights),
        "train_dit.0.init_weights": str(weights),
    }


def test_each_missing_path_is_told_with_its_place_before_anything_is_made(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, weights="/nowhere/w.safetensors", t5="/nowhere/t5")
    workspace = Workspace(tmp_path / "workspace")
    with pytest.raises(ConfigError) as caught:
        create_run(load_config(recipe), str(tmp_path), workspace)
    for told in (
        f"{recipe}, line 2: models.text_encoder.path: /nowhere/t5 is no folder",
        f"{recipe}, line 4: evaluate_vae.lpips_weights: no weight file at /nowhere/w.safetensors",
        f"{recipe}, line 6: train_dit.0.init_weights: no weight file at /nowhere/w.safetensors",
    ):
        assert told in caught.value.message
    assert not workspace.root.exists()


@pytest.mark.parametrize("path", ["weights.safetensors", "~/weights.safetensors", "'~nobody/w'"])
def test_a_path_that_depends_on_where_one_is_is_refused(
    path: str, tmp_path: Path, t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"line 4: evaluate_vae\.lpips_weights: "):
        check_paths(load_config(_recipe(tmp_path, weights=path, t5=t5)))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_file_that_is_closed_to_us_is_refused(tmp_path: Path, weights: Path, t5: Path) -> None:
    weights.chmod(0)
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        check_paths(load_config(_recipe(tmp_path, weights=weights, t5=t5)))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"{}", "it has no d_model"),
        ("config.json", b'{"d_model": 32}', "text encoder width=64, but T5 in .* has 32"),
        ("config.json", b"\xff", "is no config of a T5 encoder"),
        ("spiece.model", None, "no tokenizer"),
        ("model.safetensors", None, "no safetensors weights"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0[[[[[[[[", "its header can't be read"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    ],
)
def test_a_folder_that_holds_no_whole_encoder_is_refused(
    name: str, content: bytes | None, told: str, tmp_path: Path, weights: Path, t5: Path
) -> None:
    if content is None:
        (t5 / name).unlink()
    else:
        (t5 / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"line 2: models\.text_encoder\.path: .*{told}"):
        check_paths(load_config(_recipe(tmp_path, weights=weights, t5=t5)))
