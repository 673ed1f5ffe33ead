"""A database as MLflow itself makes it, for tests to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kinetoscope.tracking.database import connect


@pytest.fixture(scope="module")
def made_by_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(made_by_mlflow: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_by_mlflow, tmp_path / "mlflow.db"))
