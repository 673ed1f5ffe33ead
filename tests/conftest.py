"""What all tests share: an environment without settings of whoever runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from pathlib import Path

_CLEARED_PREFIXES = ("KINO_", "MLFLOW_", "AWS_")
# Says which servers and images tests may use.
_KEPT_PREFIX = "KINO_TEST_"
# They look at one finished run of the pipeline (the fixture `smoke`), which takes two minutes.
_OF_ONE_RUN = {
    "test_flipped_bits.py",
    "test_moved_run.py",
    "test_pipeline.py",
    "test_second_kind.py",
}
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


class _Scheduling(LoadFileScheduling):  # type: ignore[misc] # it has no types
    """Tests of one file stay in one process, and so do those of all files that share a run."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "one run" if file.rpartition("/")[2] in _OF_ONE_RUN else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Say which tests go to one process (pytest-xdist)."""
    return _Scheduling(config, log)
