"""Verbs that read, as a user starts them: they import little, create nothing, and need no rights.

So do those that are given something that is not there: they say so before they begin.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny.privileges import do_or_skip
from tiny.registry import new_version, register
from tiny.runs import make_finished_run
from tiny.snapshots import snapshot

ROOT = Path(__file__).resolve().parents[2]
# What a verb that reads records or names needs none of; each costs a good part of a second or more.
HEAVY = ("mlflow", "torch", "kfp", "pyarrow", "av", "cv2", "pandas", "sqlalchemy", "transformers")
KINO = """
import json, os, sys
from kinetoscope.cli.app import app
try:
    app(prog_name="kino")
finally:
    heavy = sorted(set(json.loads(os.environ["HEAVY"])) & sys.modules.keys())
    if heavy:
        os.write(2, f"imported {heavy}\\n".encode())
"""

# With the exit codes in a workspace with a run and a model, and where there is no workspace.
READING = {
    "ls": (0, 0),
    "ls --json": (0, 0),
    "show": (0, 2),
    "show --json": (0, 2),
    "status": (0, 2),
    "logs": (0, 2),
    "data report": (0, 2),
    "resume": (0, 2),
    "stop": (0, 2),
    "models ls": (0, 0),
    "models ls --json": (0, 0),
    "models show toy": (0, 2),
    "models show toy --json": (0, 2),
    "recipes": (0, 0),
    "config show": (0, 0),
    "config schema": (0, 0),
    "config profiles list": (0, 0),
}
WRONG = (
    "show rzzz",
    "status rzzz",
    "logs rzzz",
    "logs last train_audio",
    "data report rzzz",
    "stop rzzz",
    "rm rzzz --yes",
    "resume rzzz",
    "resume last --fresh train_audio",
    "config show huge",
    "compile --recipe huge --out folder/p.yaml",
    "compile --out p.txt",
    "compile --out cli.py/p.yaml",
    "models show nope",
    "models show toy/9",
    "models show a/b/c",
    "models promote nope",
    "models export nope --out exported",
    "models import a/b --from exported",
    "models import copy --from exported",
    "models import copy --dit dit --vae vae --text-encoder t5",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a finished run, an untrained model and its registry."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINO_WORKSPACE", str(folder / "workspace"))
        make_finished_run("raaaaaaa")
        register(new_version(folder))
    return folder / "workspace"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder for all that a verb may see: its home, where it is started, a workspace."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "cli.py", home)
    return home


@pytest.fixture
def workspace(original: Path, home: Path) -> Path:
    return Path(shutil.copytree(original, home / "workspace"))


@pytest.fixture
def read_only(workspace: Path) -> Iterator[Path]:
    """Yield the workspace as nobody can write to it; skip where mounts are not allowed."""
    binds = (["--bind", str(workspace)], ["-o", "remount,bind,ro"])
    for options in binds:
        do_or_skip(["mount", *options, str(workspace)], "to mount a folder read-only")
    try:
        yield workspace
    finally:
        subprocess.run(["umount", "--lazy", str(workspace)], check=True)


def kino(
    arguments: str, home: Path, *, code: int, before: tuple[str, ...] = (), heavy: bool = False
) -> str:
    """Run a verb in a process of its own; return all that it wrote."""
    names = "[]" if heavy else str(list(HEAVY)).replace("'", '"')
    places = {"HOME": str(home), "KINO_WORKSPACE": "workspace", "HEAVY": names}
    source = f"import sys; sys.path[:0] = {[str(ROOT / 'platform'), str(ROOT / 'components')]}\n"
    done = subprocess.run(
        [*before, sys.executable, "-c", source + KINO, *arguments.split()],
        env=os.environ | places | {"MPLCONFIGDIR": str(home.parent), "XDG_CACHE_HOME": ""},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert "imported [" not in told
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize("verb", READING)
def test_a_reading_verb_is_light_and_changes_nothing(
    verb: str, home: Path, workspace: Path
) -> None:
    before = snapshot(home)
    kino(verb, home, code=READING[verb][0])
    assert snapshot(home) == before


@pytest.mark.parametrize("verb", READING)
def test_where_there_is_no_workspace_none_is_made(verb: str, home: Path) -> None:
    before = snapshot(home)
    code = READING[verb][1]
    told = kino(verb, home, code=code)
    assert snapshot(home) == before
    if code or "ls" in verb.split():
        assert f"there is no workspace at {home / 'workspace'}" in told


def test_where_no_run_is_the_store_that_was_named_is_told(
    home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = (home / "mistyped").as_uri()
    monkeypatch.setenv("KINO_STORE_URI", uri)
    for verb, code in (("ls", 0), ("show", 2)):
        assert f"in {uri}" in kino(verb, home, code=code)
    assert not (home / "mistyped").exists()


@pytest.mark.parametrize("verb", WRONG)
def test_what_is_wrong_is_told_before_anything_heavy_or_lasting(
    verb: str, home: Path, workspace: Path
) -> None:
    before = snapshot(home)
    assert "error: " in kino(verb, home, code=2)
    assert snapshot(home) == before


@pytest.mark.parametrize(
    "verb", ["promote toy", "export toy --out exported", "rebuild", "show toy", "ls"]
)
def test_models_of_no_workspace_make_none(verb: str, home: Path) -> None:
    before = snapshot(home)
    told = kino(f"models {verb}", home, code=0 if verb in ("ls", "rebuild") else 2)
    assert snapshot(home) == before
    assert f"there is no workspace at {home / 'workspace'}" in told


# What it needs for a prompt, it needs before it knows the model.
@pytest.mark.parametrize(
    "options", ["--model nope", "--out workspace/mlflow.db/a.mp4", "--reference no.png"]
)
def test_generate_tells_what_is_wrong_before_it_imports_torch(
    options: str, home: Path, workspace: Path
) -> None:
    before = snapshot(home)
    assert "error: " in kino(f"generate circle {options}", home, code=2)
    assert snapshot(home) == before


@pytest.mark.parametrize("verb", READING)
def test_a_read_only_workspace_can_be_read(verb: str, home: Path, read_only: Path) -> None:
    kino(verb, home, code=READING[verb][0])


def test_models_of_a_read_only_workspace_are_exported_and_generate(
    home: Path, read_only: Path
) -> None:
    kino("models export toy --out exported", home, code=0, heavy=True)
    assert (home / "exported" / "dit" / "config.json").is_file()
    kino("generate circle --out clip.mp4", home, code=0, heavy=True)
    assert (home / "clip.mp4").stat().st_size > 0
    refused = kino("generate circle --out workspace/clip.mp4", home, code=2)
    assert "is read-only" in refused


def test_the_doctor_says_that_a_workspace_is_read_only(home: Path, read_only: Path) -> None:
    told = kino("doctor", home, code=1, heavy=True)
    assert "read-only for you: what is in it can be looked at, but no run started" in told


def test_a_workspace_of_somebody_else_is_read_as_far_as_one_may(
    home: Path, workspace: Path
) -> None:
    # Without its powers the superuser is bound by modes as others are.
    powerless = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    if os.geteuid() == 0:
        done = subprocess.run([*powerless, "true"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs to give up powers: {done.stderr.strip()}")
    before = powerless if os.geteuid() == 0 else ()
    _set_modes(workspace, folders=0o555, files=0o444)
    seen = snapshot(workspace)
    for verb, (code, _) in READING.items():
        kino(verb, home, code=code, before=before)
    assert snapshot(workspace) == seen

    (workspace / "objects" / "runs").chmod(0)
    shut = kino("ls", home, code=1, before=before)
    assert "Permission denied" in shut
    _set_modes(workspace, folders=0o755, files=0o644)


def _set_modes(folder: Path, *, folders: int, files: int) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(folders if path.is_dir() else files)
