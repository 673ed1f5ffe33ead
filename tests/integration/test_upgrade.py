"""An upgrade of an installed Kinetoscope goes on with what the version before had trained."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = Path(sysconfig.get_path("purelib"))
KINO = "from kinetoscope.cli.app import app; app(prog_name='kino')"
NEXT_VERSION = "9.9.9"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Installed:
    """`kino` of a wheel, in an environment whose other libraries are this one's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.workspace = path / "workspace"
        self._python = path / "venv" / "bin" / "python"
        venv.create(path / "venv")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._site = path / "venv" / "lib" / version / "site-packages"
        # A folder named in a .pth file: its own .pth files, and so this checkout, do not count.
        (self._site / "libraries.pth").write_text(f"{LIBRARIES}\n")

    def install(self, source: Path) -> None:
        """Build the wheel of a source tree and put it in the place of the one before."""
        dist = self._path / f"dist-{source.name}"
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        for old in self._site.glob("kinetoscope*"):
            shutil.rmtree(old)
        (wheel,) = dist.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self._site)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [str(self._python), "-c", KINO, *args],
            cwd=self._path,
            env=os.environ | {"KINO_WORKSPACE": str(self.workspace)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args: str) -> str:
        """Return what a command printed."""
        process = self.start(*args)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out


def _source(path: Path) -> Path:
    path.mkdir()
    for name in ("platform", "components"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, path)
    return path


def _next_version(path: Path) -> Path:
    source = _source(path)
    for name in ("pyproject.toml", "platform/kinetoscope/__init__.py"):
        file = source / name
        text = re.sub(
            r'^(_*version_* = )".*"', rf'\g<1>"{NEXT_VERSION}"', file.read_text(), flags=re.M
        )
        file.write_text(text)
    with (source / "platform/kinetoscope/models/stdit/model.py").open("a") as model:
        model.write("# another line\n")
    return source


def test_a_run_killed_in_training_goes_on_at_its_checkpoint_with_the_next_version(
    tmp_path: Path, mixed_videos: Path
) -> None:
    kino = Installed(tmp_path)
    kino.install(_source(tmp_path / "one"))
    loop = ["num_steps=60", "checkpoint_every_steps=2"]
    sets = [text for value in loop for text in ("--set", f"train_dit.0.loop.{value}")]
    process = kino.start("run", "--recipe", "smoke", "--videos", str(mixed_videos), *sets)
    _kill_once_saved(kino, process)

    kino.install(_next_version(tmp_path / "two"))
    shown = json.loads(kino("resume", "last", "--json"))
    assert shown["state"] == "succeeded"
    steps = {step["name"]: step for step in shown["steps"]}
    one, other = steps["train_dit_1"]["code_versions"]
    assert one.startswith("0.")
    assert other.startswith(f"{NEXT_VERSION}+")
    assert steps["train_dit_1"]["attempts"] == 2
    assert all(steps[name]["attempts"] == 1 for name in ("prepare_data", "train_vae_3"))
    first = kino.workspace.glob("objects/steps/train_dit_1/*/attempts/000002/metrics.jsonl")
    rows = [json.loads(line) for line in next(first).read_text().splitlines()]
    assert rows[0]["step"] > 2
    assert f"train_dit_1 was made by {one}, then {other}" in kino("show", "last")


def _kill_once_saved(kino: Installed, process: Any) -> None:
    pattern = "objects/steps/train_dit_1/*/checkpoints/*/MANIFEST.json"
    while not list(kino.workspace.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    parent = psutil.Process(process.pid)
    for member in [parent, *parent.children(recursive=True)]:
        member.kill()
    process.communicate()
