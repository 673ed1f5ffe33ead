"""Runs where every path is odd: interpreter, workspace and videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetoscope.core.uris import sqlite_uri
from kinetoscope.tracking.database import connect
from kinetoscope.tracking.database_check import examine_database

ROOT = Path(__file__).resolve().parents[2]
ODD = 'it\'s a python3 %2F #1; "$HOME" `x` what?is=this \u00fc'

CONNECT = "import sys; from kinetoscope.tracking.database import connect; connect(sys.argv[1])"
KFP_SCRIPT = """
import sys
from pathlib import Path
from kfp import dsl, local
from kinetoscope.pipelines.local_command import take_over_commands

@dsl.component(base_image="python", install_kfp_package=False)
def tell(text: str) -> str:
    import sys
    return f"{sys.executable}, {text}"

if __name__ == "__main__":
    take_over_commands(Path(sys.argv[1]))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
    assert tell(text=sys.argv[1]).output == f"{sys.executable}, {sys.argv[1]}"
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """This Python at an odd path."""
    (tmp_path / f"venv {ODD}").symlink_to(sys.prefix)
    return tmp_path / f"venv {ODD}" / "bin" / "python"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A current folder at an odd path."""
    (tmp_path / f"here :it {ODD}").mkdir()
    return tmp_path / f"here :it {ODD}"


def test_kfp_s_local_runner_works_at_any_path_and_leaves_nothing_in_the_system_s_folder(
    tmp_path: Path, interpreter: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(KFP_SCRIPT)
    temporary = tmp_path / "temporary"
    for folder in (temporary, tmp_path / ODD):
        folder.mkdir()
    command = [str(interpreter), str(script), str(tmp_path / ODD)]
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert [path.name for path in temporary.glob("tmp.*")] == []


def test_mlflow_at_any_path_makes_its_tables_from_any_folder(here: Path, interpreter: Path) -> None:
    command = [str(interpreter), "-c", CONNECT, sqlite_uri(here / "mlflow.db")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert examine_database(here / "mlflow.db").found.endswith("the installed MLflow")
    assert {path.name for path in here.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_the_registry_opens_for_a_user_of_whom_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
    )
    workspace = tmp_path / "workspace"
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, sqlite_uri(workspace / "mlflow.db")],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}/platform", "KINO_WORKSPACE": str(workspace)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (workspace / "mlflow.db").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {
        "__pycache__",
        "sitecustomize.py",
        "workspace",
    }


@pytest.mark.slow
def test_a_run_ends_well_at_any_path_in_a_bare_environment(
    tmp_path: Path, here: Path, interpreter: Path, mixed_videos: Path
) -> None:
    """Relative, by a link, without HOME and with a language that knows ASCII alone."""
    (here / f"videos {ODD}").symlink_to(mixed_videos)
    workspace = tmp_path / ODD
    workspace.mkdir()
    (here / "link").symlink_to(f"../{ODD}")
    before = sorted([*tmp_path.iterdir(), *here.iterdir()])

    def kino(*words: str) -> str:
        done = subprocess.run(
            [str(interpreter), str(ROOT / "cli.py"), *words],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "KINO_WORKSPACE": "link"},
            cwd=here,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, f"kino {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    kino("run", "--recipe", "smoke", "--videos", f"videos {ODD}")
    shown = json.loads(kino("show", "last", "--json"))
    for what in ("report", "sample"):
        assert Path(shown[what]).is_file()
        assert Path(shown[what]).is_relative_to(workspace)
    kino("generate", "a red ball", "--out", "link/clip.mp4")
    assert (workspace / "clip.mp4").stat().st_size > 0
    assert json.loads(kino("models", "ls", "--json"))
    # Nothing fell beside the workspace.
    assert sorted([*tmp_path.iterdir(), *here.iterdir()]) == before

    client = connect(sqlite_uri(workspace / "mlflow.db"))
    experiment = client.get_experiment_by_name("kinetoscope")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`kinetoscope.dev/run` != ''")
    assert len(runs) == 1
    tracked = runs[0].info.run_id
    assert [item.path for item in client.list_artifacts(tracked)] == ["report.html"]
    assert (workspace / "mlartifacts" / tracked / "artifacts" / "report.html").is_file()
