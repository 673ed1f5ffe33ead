"""A workspace that was moved or copied: everything is read and written where it is now."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tiny.registry import new_version, register
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import workspace
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import Tracker

ROOT = Path(__file__).resolve().parents[2]

# Its name has what a URI quotes, and what LIKE would take for any character.
ORIGINAL, MOVED = "first_1 ä%", "second place"

# In a process of its own: MLflow remembers a run's place as long as it lives.
SESSION = """
import json, sys
from pathlib import Path
from kinetoscope.core.settings import workspace
from kinetoscope.tracking.tracker import Tracker

tracker = Tracker(workspace().tracking_uri, workspace().artifacts_path)
told = {}
for number in ("raaaaaaa", "rbbbbbbb"):
    run = tracker.open_run(number, name="n")
    tracker.log_artifact(run, Path(sys.argv[1]))
    told[number] = [item.path for item in tracker._client.list_artifacts(run)]
print(json.dumps(told))
"""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace with a run that has an artifact, and a registered model."""
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / ORIGINAL))
    tracker = Tracker(workspace().tracking_uri, workspace().artifacts_path)
    run = tracker.open_run("raaaaaaa", name="n")
    tracker.log_artifact(run, note(tmp_path, "first.txt"))
    experiment = tracker._client.get_run(run).info.experiment_id
    tracker._client.create_logged_model(experiment, name="kept", source_run_id=run)
    register(new_version(tmp_path))
    return tmp_path / ORIGINAL


def note(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(name)
    return path


def log_in(folder: Path, path: Path) -> dict[str, list[str]]:
    """Log an artifact to the run and to a new one; return what the two have then."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(path)],
        env=os.environ | {"KINO_WORKSPACE": str(folder), "PYTHONPATH": str(ROOT / "platform")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def places(database: Path) -> set[str]:
    """Return all locations in a database but those of MLflow's own default experiment."""
    with closing(sqlite3.connect(database)) as connection:
        return {
            str(value)
            for table, column in COLUMNS
            for (value,) in connection.execute(f"SELECT {column} FROM {table}")  # noqa: S608
            if "mlruns" not in str(value)
        }


def generate(out: Path) -> bytes:
    arguments = ["generate", "a red circle", "--seed", "3", "--out", str(out), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model"] == "toy/1"
    return out.read_bytes()


def test_a_copy_is_written_and_the_original_is_not(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / MOVED
    shutil.copytree(original, copy)
    before = content(original)
    logged = log_in(copy, note(tmp_path, "second.txt"))
    assert logged == {"raaaaaaa": ["first.txt", "second.txt"], "rbbbbbbb": ["second.txt"]}
    assert content(original) == before
    assert len(list((copy / "mlartifacts").rglob("*.txt"))) == 3
    assert all(place.startswith(f"{copy.as_uri()}/") for place in places(copy / "mlflow.db"))


def test_a_moved_workspace_generates_and_registers_as_before(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = generate(tmp_path / "before.mp4")
    moved = original.rename(tmp_path / MOVED)
    monkeypatch.setenv("KINO_WORKSPACE", str(moved))
    assert generate(tmp_path / "after.mp4") == clip
    assert register(new_version(tmp_path)).version == "1"
    assert len(ModelRegistry(workspace().tracking_uri).versions("toy")) == 1
    assert not original.exists()


def test_a_copy_without_its_models_takes_nobody_else_s(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / MOVED)
    shutil.rmtree(tmp_path / MOVED / "objects" / "models")
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / MOVED))
    refused = CliRunner().invoke(app, ["generate", "a red circle", "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert "is not in the object store" in refused.stderr
    shown = CliRunner().invoke(app, ["models", "show", "toy"])
    assert shown.exit_code == 0
    assert "is not in the object store" in shown.stdout


def test_a_database_that_others_share_keeps_its_places(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = original / "mlflow.db"
    before = places(database)
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / MOVED))
    Tracker(f"sqlite:///{database}", workspace().artifacts_path).open_run("rbbbbbbb", name="n")
    assert before <= places(database)
    assert all(place.startswith(f"{original.as_uri()}/") for place in places(database))


def test_a_place_that_the_user_chose_stays(tmp_path: Path) -> None:
    Tracker(workspace().tracking_uri, tmp_path / "chosen")
    Tracker(workspace().tracking_uri, workspace().artifacts_path)
    chosen = (tmp_path / "chosen").as_uri()
    default = f"{workspace().artifacts_path.as_uri()}/0"  # of MLflow's own first experiment
    assert places(workspace().root / "mlflow.db") == {chosen, default}
