"""Runs of MLflow that somebody else made for a run of ours.

In a pod of Kubeflow's pipelines, whose MLflow integration is on, ``MLFLOW_RUN_ID`` names a run that
was made for the task alone, nested in that of the pipeline: the latter is the one to adopt.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kinetoscope.core.mlflow_variables import named_run
from kinetoscope.tracking.database import call
from kinetoscope.tracking.runs.experiment import is_final
from kinetoscope.tracking.runs.tags import PARENT_TAG, RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)


def run_to_adopt(client: MlflowClient, experiment: str, run_id: str) -> Run | None:
    """Return the run that the environment names for a run of ours, or None with a warning.

    Args:
        client: of the tracking store.
        experiment: that our runs are in; a run elsewhere is not adopted.
        run_id: our id of the run.
    """
    named = named_run()
    if not named:
        return None
    found = _active(client, named)
    parent = found.data.tags.get(PARENT_TAG) if found is not None else None
    if parent:
        found = _active(client, parent)
    why = _refusal(found, experiment, run_id)
    if why is None:
        return found
    what = f"MLFLOW_RUN_ID={named!r}" + (f", whose parent is {parent}," if parent else "")
    _log.warning("%s names %s: this run gets an MLflow run of its own", what, why)
    return None


def _refusal(found: Run | None, experiment: str, run_id: str) -> str | None:
    """Return why a run is not adopted, or None where it is."""
    if found is None:
        return "no run that is there"
    if str(found.info.experiment_id) != experiment:
        return f"a run of experiment {found.info.experiment_id} and not of {experiment}"
    other = found.data.tags.get(RUN_TAG, run_id)
    return None if other == run_id else f"what is the run of {other}"


def _active(client: MlflowClient, tracked: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        found = call(client.get_run, tracked)
    except MlflowException as error:
        if not is_final(error):
            raise
        return None
    return found if found.info.lifecycle_stage == "active" else None
