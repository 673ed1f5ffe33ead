"""Runs in MLflow: a parent run per pipeline run, a nested run per step, curves, small artifacts.

Everything here can be repeated: a run and a step are found again by their tags, parameters that are
there already are left alone, and a row of metrics that was logged before is not logged twice. So a
mirror that was killed starts over from the first row.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Literal

from kinetoscope.core.config_model import Record
from kinetoscope.core.uris import sqlite_path
from kinetoscope.tracking.database import call, connect, exclusive, experiment_id
from kinetoscope.tracking.params import flatten_params

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mlflow.entities import Metric, Run

RUN_TAG = "kinetoscope.dev/run"
STEP_TAG = "kinetoscope.dev/step"

Status = Literal["FINISHED", "FAILED", "KILLED"]

_PARENT_TAG = "mlflow.parentRunId"
# MLflow's limits on one batch.
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000


class MetricRow(Record):
    """A line of a step's ``metrics.jsonl``."""

    step: int
    time: float
    """Seconds since the epoch."""
    metrics: dict[str, float]


class Tracker:
    """Writes the runs of one MLflow store.

    Args:
        tracking_uri: ``sqlite:///...`` or a server's URL.
        artifacts_path: where the embedded store keeps artifacts; None leaves it to the server.
    """

    def __init__(self, tracking_uri: str, artifacts_path: Path | None = None) -> None:
        self._uri = tracking_uri
        self._client = connect(tracking_uri)
        embedded = artifacts_path if sqlite_path(tracking_uri) else None
        self._experiment = experiment_id(self._client, tracking_uri, embedded)
        self._last_steps: dict[str, dict[str, int]] = {}

    def open_run(
        self,
        run_id: str,
        *,
        name: str,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the MLflow id of a pipeline run: found by its tag, or adopted, or made.

        ``MLFLOW_RUN_ID`` in the environment names a run to adopt.

        Args:
            run_id: our id of the run.
            name: shown in MLflow.
            tags: lineage, e.g. the config's hash.
            params: a nested config, flattened here.
        """
        all_tags = {**(tags or {}), RUN_TAG: run_id}
        with exclusive(self._uri):
            tracked = self.find_run(run_id) or os.environ.get("MLFLOW_RUN_ID")
            tracked = self._open(tracked, name, all_tags)
        self._log_params(tracked, params or {})
        return tracked

    def open_step(
        self,
        parent: str,
        step: str,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the MLflow id of a step's nested run, reopened when it exists.

        Args:
            parent: MLflow id of the pipeline run.
            step: name of the step.
            tags: e.g. its fingerprint.
            params: the step's own config, flattened here.
        """
        all_tags = {**(tags or {}), STEP_TAG: step, _PARENT_TAG: parent}
        with exclusive(self._uri):
            found = self._find({_PARENT_TAG: parent, STEP_TAG: step})
            tracked = self._open(found, step, all_tags)
        self._log_params(tracked, params or {})
        return tracked

    def find_run(self, run_id: str) -> str | None:
        """Return the MLflow id of a pipeline run, or None when it was never opened."""
        return self._find({RUN_TAG: run_id})

    def log_rows(self, tracked: str, rows: Iterable[MetricRow]) -> int:
        """Add metrics to a run; returns how many values were new.

        A value is skipped when its metric has one of the same or a later step: a resumed step
        repeats the steps since its last checkpoint, and they are equal by construction.
        """
        from mlflow.entities import Metric

        last = self._known_steps(tracked)
        fresh: list[Metric] = []
        for row in rows:
            for key, value in row.metrics.items():
                if row.step > last.get(key, -1):
                    last[key] = row.step
                    fresh.append(Metric(key, float(value), round(row.time * 1000), row.step))
        try:
            self._log_batches(tracked, fresh)
        except BaseException:
            del self._last_steps[tracked]
            raise
        return len(fresh)

    def log_metrics(self, tracked: str, values: Mapping[str, float], step: int = 0) -> None:
        """Add final figures to a run, once."""
        self.log_rows(tracked, [MetricRow(step=step, time=time.time(), metrics=dict(values))])

    def set_tags(self, tracked: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        call(
            self._client.log_batch,
            tracked,
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def log_artifact(self, tracked: str, path: Path, folder: str | None = None) -> None:
        """Copy a small file to a run's artifacts, replacing one of the same name."""
        call(self._client.log_artifact, tracked, str(path), folder)

    def finish(self, tracked: str, status: Status = "FINISHED") -> None:
        """Set the final status of a run or step."""
        call(self._client.set_terminated, tracked, status=status)

    def _find(self, tags: Mapping[str, str]) -> str | None:
        clauses = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        runs: list[Run] = call(
            self._client.search_runs,
            [self._experiment],
            filter_string=" and ".join(clauses),
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return str(runs[0].info.run_id) if runs else None

    def _open(self, found: str | None, name: str, tags: Mapping[str, str]) -> str:
        if found is None:
            run = call(self._client.create_run, self._experiment, tags=dict(tags), run_name=name)
            return str(run.info.run_id)
        call(self._client.update_run, found, status="RUNNING")
        self.set_tags(found, tags)
        return found

    def _log_params(self, tracked: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = call(self._client.get_run, tracked).data.params
        fresh = [
            Param(key, value)
            for key, value in flatten_params(dict(params)).items()
            if key not in known
        ]
        for start in range(0, len(fresh), _PARAMS_PER_BATCH):
            call(self._client.log_batch, tracked, params=fresh[start : start + _PARAMS_PER_BATCH])

    def _log_batches(self, tracked: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            call(
                self._client.log_batch,
                tracked,
                metrics=metrics[start : start + _METRICS_PER_BATCH],
            )

    def _known_steps(self, tracked: str) -> dict[str, int]:
        if tracked not in self._last_steps:
            keys = call(self._client.get_run, tracked).data.metrics
            self._last_steps[tracked] = {
                key: max(
                    metric.step for metric in call(self._client.get_metric_history, tracked, key)
                )
                for key in keys
            }
        return self._last_steps[tracked]
