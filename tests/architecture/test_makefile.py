"""Any path does for the Makefile: of the checkout, the workspace and the videos."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# As a program of the environment: notes how it was called.
RECORDER = f"""#!/bin/sh
'''exec' {shlex.quote(sys.executable)} "$0" "$@"
' '''
import json, os, sys
with open({{log!r}}, "a") as log:
    call = [os.environ.get("VIRTUAL_ENV"), os.environ.get("KINO_WORKSPACE"), *sys.argv[1:]]
    log.write(json.dumps(call) + "\\n")
"""


@pytest.fixture(params=["plain", "my work/kino", 'it\'s "%2F" #1; $HOME \u00fc'])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkout whose uv and kino only note how they are called."""
    folder = tmp_path / str(request.param)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    for program in (".uv/bin/uv", ".uv/bin/python", ".venv/bin/python", ".venv/bin/kino"):
        path = folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORDER.format(log=str(tmp_path / "calls")))
        path.chmod(0o755)
    packages = folder / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "platform").mkdir()
    # As uv writes it.
    (packages / "_editable_impl_kinetoscope.pth").write_text(
        f"{folder}/components\n{folder}/platform"
    )
    return folder


def _make(checkout: Path, *words: str) -> list[list[str]]:
    """Run make; return environment, workspace and arguments of each call of a program."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "-C", str(checkout), *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    calls = next(path for path in checkout.parents if (path / "calls").exists()) / "calls"
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_setup_fills_the_environment_of_the_checkout(checkout: Path) -> None:
    calls = _make(checkout, "setup")
    assert [call[2:4] for call in calls] == [["pip", "sync"], ["pip", "install"]]
    assert {call[0] for call in calls} == {str(checkout / ".venv")}


def test_the_checkout_is_found_in_a_locale_without_its_letters(checkout: Path) -> None:
    _make(checkout, "setup")
    code = "import os, site, sys; site.addsitedir(sys.argv[1]); print(os.fsencode(sys.path[-1]))"
    command = [sys.executable, "-c", code, ".venv/lib/python3.11/site-packages"]
    shown = subprocess.run(
        command, cwd=checkout, env={"LC_ALL": "C"}, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{os.fsencode(checkout / 'platform')!r}\n"


def test_the_demo_uses_the_workspace_and_the_videos_that_are_named(checkout: Path) -> None:
    calls = _make(checkout, "demo", "WORKSPACE=../a 'workspace' #1", "SEED=7")
    videos = "../a 'workspace' #1/demo-videos-7"
    kino = [call[1:] for call in calls if call[2] in ("data", "run", "show")]
    assert kino == [
        ["../a 'workspace' #1", "data", "synth", "--out", videos, "--seed", "7"],
        ["../a 'workspace' #1", "run", "--recipe", "tiny", "--videos", videos, "--set", "seed=7"],
        ["../a 'workspace' #1", "show", "last"],
    ]
    (checkout / "my videos").mkdir()
    (checkout / "my videos" / "captions.csv").touch()
    again = _make(checkout, "demo", "DEMO_VIDEOS=my videos")[len(calls) :]
    assert [call[2:] for call in again] == [
        ["run", "--recipe", "tiny", "--videos", "my videos", "--set", "seed=0"],
        ["show", "last"],
    ]


def test_the_wheel_is_installed_into_its_bare_environment(checkout: Path) -> None:
    calls = _make(checkout, "--ignore-errors", "test-wheel")
    install = next(call for call in calls if call[2:4] == ["pip", "install"])
    assert install[0] == str(checkout / "build" / "bare")


@pytest.mark.parametrize("python", ["3.12", "python3.12", "/opt/python3.12"])
def test_the_wheelhouse_is_of_the_python_that_is_named(checkout: Path, python: str) -> None:
    (call,) = _make(checkout, "wheelhouse", f"PYTHON={python}")
    assert call[2:5] == ["-m", "pip", "download"]
    assert call[call.index("--python-version") + 1] == "3.12"
    assert call[call.index("--dest") + 1] == ".wheelhouse"


def test_help_needs_no_plain_path(checkout: Path) -> None:
    done = subprocess.run(
        ["make", "-f", str(checkout / "Makefile")], cwd=checkout, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "setup" in done.stdout
