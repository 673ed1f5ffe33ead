"""A transformer of another kind, in a package of its own, goes through the whole pipeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = Path(__file__).parent / "kinds"
DIT = "models.dit={kind: plain, in_channels: 4, text_width: 64, max_text_tokens: 8}"
_FINGERPRINTS = """
import json, sys
from kinetoscope.config.load import load_config
from kinetoscope.core.code_version import sources_digest
from kinetoscope.runs.identity import modules_of_step
from kinetoscope.runs.steps import planned_steps
steps = planned_steps(load_config("smoke", sys.argv[1:]).config)
print(json.dumps({s.name: sources_digest(*modules_of_step(s)) for s in steps}))
"""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder on the path of all processes that has the kind as an installed package."""
    folder = tmp_path / "site"
    shutil.copytree(KINDS, folder)
    roots = [str(folder), str(ROOT / "platform"), str(ROOT / "components")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
    return folder


def test_it_is_planned_trained_judged_registered_and_generates(
    smoke: Any, mixed_videos: Path, installed: Path, tmp_path: Path
) -> None:
    given = ["--set", DIT, "--set", "register_model.model_name=plain"]
    told = smoke.json("run", "--recipe", "smoke", "--videos", str(mixed_videos), *given)
    done_here = [step["name"] for step in told["steps"] if not step["cached"]]
    assert done_here == ["train_dit_1", "evaluate_dit", "register_model"]
    assert told["scores"]["rf_loss.mean"] > 0
    assert (told["model"]["name"], told["model"]["aliases"]) == ("plain", ["candidate", "champion"])
    clip = tmp_path / "clip.mp4"
    smoke("generate", "a red circle", "--model", "plain/1", "--out", str(clip))
    assert clip.stat().st_size > 0


def test_without_its_package_the_kinds_that_there_are_are_named(smoke: Any) -> None:
    error = smoke("run", "--recipe", "smoke", "--videos", ".", "--set", DIT, code=2)
    assert "models.dit: " in error
    assert "there is no kind of model 'plain'; kinds are stdit, vae" in error


def test_editing_it_runs_the_steps_again_that_use_it(installed: Path) -> None:
    before = _code_versions()
    with (installed / "plain_kind" / "model.py").open("a") as source:
        source.write("# another line\n")
    after = _code_versions()
    assert [name for name in before if before[name] != after[name]] == [
        "train_dit_1",
        "evaluate_dit",
        "register_model",
    ]


def _code_versions() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _FINGERPRINTS, DIT], check=True, capture_output=True, text=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
