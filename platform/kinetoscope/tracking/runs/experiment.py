"""The experiment that our runs are in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kinetoscope.core.mlflow_variables import named_experiment
from kinetoscope.tracking.database import EXPERIMENT, call, exclusive

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.exceptions import MlflowException

_ACTIVE = "active"
# Answers that stay the same, however often one asks.
_FINAL = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"})

_log = logging.getLogger(__name__)


def experiment_id(client: MlflowClient, tracking_uri: str, artifacts_path: Path | None) -> str:
    """Return the id of the experiment for our runs.

    That is the one that ``MLFLOW_EXPERIMENT_ID`` names, as Kubeflow's MLflow integration does; else
    our own, made on first use.

    Args:
        client: from `tracking.database.connect`.
        tracking_uri: the store's URI.
        artifacts_path: where the embedded store keeps artifacts; None leaves it to the server.
    """
    named = named_experiment()
    if named:
        if _is_there(client, named):
            return named
        told = "MLFLOW_EXPERIMENT_ID=%r names no experiment to write to: using %r"
        _log.warning(told, named, EXPERIMENT)
    location = artifacts_path.as_uri() if artifacts_path else None
    with exclusive(tracking_uri):
        found = call(client.get_experiment_by_name, EXPERIMENT)
        if found is None:
            found = call(_create_experiment, client, location)
        if found.lifecycle_stage != _ACTIVE:
            _log.warning("the experiment %r was deleted in MLflow: restoring it", EXPERIMENT)
            call(client.restore_experiment, found.experiment_id)
    return str(found.experiment_id)


def all_experiments(client: MlflowClient) -> list[str]:
    """Return the ids of all experiments that this client may look into."""
    found: list[str] = []
    token = None
    while True:
        page = call(client.search_experiments, page_token=token)
        found += [str(experiment.experiment_id) for experiment in page]
        token = page.token
        if not token:
            return found


def is_final(error: MlflowException) -> bool:
    """Tell whether an error says that there is no such thing for us, now and later."""
    return error.error_code in _FINAL


def _is_there(client: MlflowClient, experiment: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        found = call(client.get_experiment, experiment)
    except MlflowException as error:
        if not is_final(error):
            raise
        return False
    return bool(found.lifecycle_stage == _ACTIVE)


def _create_experiment(client: MlflowClient, location: str | None) -> Experiment:
    from mlflow.exceptions import MlflowException

    try:
        made = client.create_experiment(EXPERIMENT, artifact_location=location)
    except MlflowException as error:
        # Another machine was faster at the same server.
        found = client.get_experiment_by_name(EXPERIMENT)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return found
    return client.get_experiment(made)
