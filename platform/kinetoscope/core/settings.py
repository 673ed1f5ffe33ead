"""The environment, read in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a laptop keeps everything: object store, registry database, scratch space."""

    root: Path

    @property
    def store_uri(self) -> str:
        """URI of the object store's root."""
        return (self.root / "objects").as_uri()

    @property
    def tracking_uri(self) -> str:
        """MLflow's database (sqlite), as MLflow wants it."""
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifacts_path(self) -> Path:
        """Where the embedded MLflow keeps its small artifacts."""
        return self.root / "mlartifacts"

    @property
    def scratch_path(self) -> Path:
        """Temporary files of running steps; safe to delete when nothing runs."""
        return self.root / "scratch"


def workspace() -> Workspace:
    """Return the workspace: ``$KINO_WORKSPACE``, by default ``./kino-workspace``."""
    return Workspace(Path(os.environ.get("KINO_WORKSPACE") or "kino-workspace").resolve())


def tracking_uri() -> str:
    """Return MLflow's URI: ``$MLFLOW_TRACKING_URI``, by default the workspace's database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or workspace().tracking_uri


def debug_enabled() -> bool:
    """Tell whether errors show their traceback: ``$KINO_DEBUG`` is 1."""
    return os.environ.get("KINO_DEBUG") == "1"
