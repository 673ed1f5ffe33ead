"""What makes the host wait for a device is found, with its place; what does not is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.9", reason="this version of torch can't make a device up"
)


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Return what a process of its own finds: a device that was made up stays."""
    done = subprocess.run(
        [sys.executable, "-m", "tiny.host_waits"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("what", "operators"),
    [
        ("item", ["_local_scalar_dense"]),
        ("truth", ["_local_scalar_dense"]),
        ("mask", ["index"]),
        ("from the host", ["copy from the host"]),
        ("numbers", ["copy from the host"]),
        ("to the host", ["copy to the host"]),
        ("nothing", []),
        ("spatial VAE", []),
        ("transformer", []),
    ],
)
def test_each_wait_is_found_and_models_have_none(
    found: dict[str, list[str]], what: str, operators: list[str]
) -> None:
    assert found[what] == operators
