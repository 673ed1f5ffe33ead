"""``platform/`` and ``components/`` are source roots; a package would shadow ``platform``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["platform", "components"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import platform; platform.system(); import uuid"],
        ["cli.py", "--help"],
        ["-m", "pytest", "--version"],
    ],
    ids=["stdlib platform", "python cli.py", "python -m pytest"],
)
def test_python_started_in_the_root_finds_the_standard_library(arguments: list[str]) -> None:
    # Without PYTHONSAFEPATH the current folder or the script's comes first on sys.path.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, env=environment
    )


def test_every_package_folder_has_an_init() -> None:
    folders = {
        path.parent
        for root in ("platform/kinetoscope", "components/kinetoscope_components")
        for path in (ROOT / root).rglob("*.py")
    }
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []
