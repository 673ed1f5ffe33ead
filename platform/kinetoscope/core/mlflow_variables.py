"""What the environment says of MLflow."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field

from kinetoscope.core.settings import tracking_uri


@dataclass(frozen=True, slots=True)
class MlflowAccess:
    """An MLflow server and what it asks for, from the variables that MLflow's own client reads."""

    uri: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    insecure_tls: bool = False

    def headers(self) -> dict[str, str]:
        """Return the header that carries the credentials, if there are any."""
        if self.username is not None and self.password is not None:
            pair = b64encode(f"{self.username}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def mlflow_access() -> MlflowAccess:
    """Return ``$MLFLOW_TRACKING_URI`` with ``_USERNAME``, ``_PASSWORD``, ``_TOKEN`` and TLS."""
    prefix = "MLFLOW_TRACKING_"
    return MlflowAccess(
        uri=tracking_uri(),
        username=os.environ.get(f"{prefix}USERNAME"),
        password=os.environ.get(f"{prefix}PASSWORD"),
        token=os.environ.get(f"{prefix}TOKEN"),
        ca_file=os.environ.get(f"{prefix}SERVER_CERT_PATH"),
        insecure_tls=os.environ.get(f"{prefix}INSECURE_TLS", "").lower() in ("true", "1"),
    )


def named_run() -> str:
    """Return ``$MLFLOW_RUN_ID``, a run of MLflow that this process works for; empty for none."""
    return os.environ.get("MLFLOW_RUN_ID", "")


def named_experiment() -> str:
    """Return ``$MLFLOW_EXPERIMENT_ID``, where runs are to be; empty where nothing was said."""
    return os.environ.get("MLFLOW_EXPERIMENT_ID", "")


@dataclass(frozen=True, slots=True)
class MlflowServerVariables:
    """What an MLflow server is told; empty where nothing is said."""

    database_uri: str = field(repr=False)
    """With the password, where the database wants one."""
    artifacts: str
    """URI or folder."""


def mlflow_server_variables() -> MlflowServerVariables:
    """Return ``$MLFLOW_BACKEND_STORE_URI`` and ``$MLFLOW_ARTIFACTS_DESTINATION``."""
    return MlflowServerVariables(
        database_uri=os.environ.get("MLFLOW_BACKEND_STORE_URI", ""),
        artifacts=os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", ""),
    )
