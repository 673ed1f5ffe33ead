"""What all tests share: an environment without settings of whoever runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_CLEARED_PREFIXES = ("KINO_", "MLFLOW_", "AWS_")
# Says which servers and images tests may use.
_KEPT_PREFIX = "KINO_TEST_"
_CLEARED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def pytest_configure(config: pytest.Config) -> None:
    """Let the test processes that share a machine (pytest-xdist) share its cores, too."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        # Read when torch is imported, which is later.
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        ours = name.startswith(_CLEARED_PREFIXES) and not name.startswith(_KEPT_PREFIX)
        if ours or name in _CLEARED:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / "workspace"))


# First: pytest-xdist reads the groups in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests in one process that share what they build; skip what needs a GPU without one."""
    for item in items:
        # A file's tests; and those of all files that look at one finished run.
        shared = "smoke" if "smoke" in getattr(item, "fixturenames", ()) else item.path.name
        item.add_marker(pytest.mark.xdist_group(shared))
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
