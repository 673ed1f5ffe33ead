"""The registry's verbs on a real sqlite MLflow, and a clip from a registered version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny.registry import new_version, register
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import workspace
from kinetoscope.data.video.files import read_video
from kinetoscope.inference.bundle import read_spec
from kinetoscope.inference.config import ClipSize
from kinetoscope.models.text.config import T5Config
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.registry import ModelRegistry

runner = CliRunner()


def kino(*arguments: str) -> Any:
    """Run a verb with ``--json`` and return what it wrote."""
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def own_store(key: str = "") -> ObjectStore:
    uri = workspace().store_uri
    return open_store(join_uri(uri, key) if key else uri)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Return a registry with two versions of a tiny untrained model, the first one champion."""
    registry = ModelRegistry(workspace().tracking_uri)
    for run in ("one", "two"):
        register(new_version(tmp_path, run=run))
    registry.promote("toy/1", own_store())
    return registry


def test_versions_are_listed_shown_promoted_and_generate(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    listed = {row["version"]: row["aliases"] for row in kino("models", "ls")}
    assert listed == {"1": ["champion"], "2": ["candidate"]}
    assert kino("models", "show", "toy")["version"] == "1"
    shown = kino("models", "show", "toy@candidate")
    assert (shown["version"], shown["scores"], shown["tags"]["run"]) == ("2", {"a.b": 0.5}, "two")

    assert kino("models", "promote", "toy/2")["aliases"] == ["candidate", "champion"]
    champion = registry.champion("toy")
    assert champion is not None
    assert champion.version == "2"

    paths = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    first = kino("generate", "a red circle", "--out", str(paths[0]), "--seed", "3")
    assert first["model"] == "toy/2"
    kino("generate", "a red circle", "--out", str(paths[1]), "--seed", "3", "--model", "toy/1")
    kino("generate", "a red circle", "--out", str(paths[2]), "--seed", "4")
    same, again, other = (path.read_bytes() for path in paths)
    assert same == again
    assert same != other
    assert read_video(paths[0])[0].shape == (5, 32, 32, 3)

    unknown = runner.invoke(app, ["models", "show", "toy/9"])
    assert unknown.exit_code == 2
    assert "error: model 'toy' has no version 9" in unknown.stderr


def test_a_clip_of_several_loops_starts_with_a_reference(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    image, folder = tmp_path / "image.png", tmp_path / "clips"
    cv2.imwrite(str(image), np.full((40, 40, 3), 200, np.uint8))
    folder.mkdir()
    prompt = "|0|a red circle|1|a dog"
    options = ["--loops", "2", "--reference", str(image), "--camera-motion", "pan left"]
    path = Path(kino("generate", prompt, "--out", str(folder), *options)["path"])
    assert path == folder / "a-red-circle-0.mp4"
    frames = read_video(path)[0]
    assert len(frames) == 2 * (5 - 1) + 1

    suffix = json.dumps({"reference_path": str(image), "mask_strategy": "0"})
    same = tmp_path / "same.mp4"
    kino("generate", f"{prompt} {suffix}", "--out", str(same), *options[:2], *options[4:])
    assert same.read_bytes() == path.read_bytes()

    refused = runner.invoke(app, ["generate", "a dog", "--reference", str(tmp_path / "gone.png")])
    assert refused.exit_code == 2
    assert "error: there is no reference" in refused.stderr


def test_an_exported_model_is_imported_and_generates_the_same_clip(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    written = kino("models", "export", "toy/1", "--out", str(out), "--shard-gib", "0.00001")
    names = {str(Path(path).relative_to(out)) for path in written["files"]}
    assert {"dit/config.json", "vae/config.json", "generation.json"} <= names
    assert "dit/model.safetensors.index.json" in names

    imported = kino("models", "import", "copy", "--from", str(out))
    assert imported["aliases"] == ["candidate"]
    assert imported["tags"]["kinetoscope.dev/imported"] == "open-sora-1.2"
    assert imported["tags"]["kinetoscope.dev/imported.dit"] == "dit"
    original = read_spec(own_store(registry.get_version("toy/1").bundle_key))
    copy = read_spec(own_store(imported["bundle_key"]))
    assert copy.files == original.files
    assert copy.lineage == {"imported": "open-sora-1.2"}
    assert copy.model_copy(update={"lineage": {}}) == original

    clips = []
    for model in ("toy", "copy"):
        path = tmp_path / f"{model}.mp4"
        kino("generate", "a red circle", "--out", str(path), "--seed", "3", "--model", model)
        clips.append(path.read_bytes())
    assert clips[0] == clips[1]

    again = kino("models", "import", "copy", "--from", str(out))
    assert again["version"] == imported["version"]


def test_released_parts_are_imported_with_a_text_encoder(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    out, t5 = tmp_path / "exported", tmp_path / "t5"
    kino("models", "export", "toy/1", "--out", str(out))
    t5.mkdir()
    parts = ["--dit", str(out / "dit"), "--vae", str(out / "vae"), "--text-encoder", str(t5)]
    missing = runner.invoke(app, ["models", "import", "sora", *parts])
    assert missing.exit_code == 2
    assert "no text encoder at" in missing.stderr
    (t5 / "config.json").write_text(json.dumps({"d_model": 9}))
    narrow = runner.invoke(app, ["models", "import", "sora", *parts])
    assert narrow.exit_code == 2
    assert "is 9 wide, the transformer takes 8" in narrow.stderr

    (t5 / "config.json").write_text(json.dumps({"d_model": 8}))
    spec = read_spec(own_store(kino("models", "import", "sora", *parts)["bundle_key"]))
    assert spec.text_encoder == T5Config(path=str(t5), width=8, max_tokens=16)
    assert (spec.size, spec.fps) == (ClipSize(num_frames=51, height=240, width=424), 24.0)
    assert (spec.sampler.num_steps, spec.sampler.guidance) == (30, 7.0)

    (out / "dit" / "model.safetensors").unlink()
    broken = runner.invoke(app, ["models", "import", "sora", *parts])
    assert broken.exit_code == 2
    assert "no weight file in" in broken.stderr
    alone = runner.invoke(app, ["models", "import", "sora", "--dit", str(out / "dit")])
    assert alone.exit_code == 2
    assert "--text-encoder" in alone.stderr
    assert registry.get_version("sora").version == "1"
