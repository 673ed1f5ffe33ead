"""Runs in MLflow: a parent run per pipeline run, a nested run per step, curves, small artifacts.

Everything here can be repeated, and done by several processes at once: a run and a step are found
again by their tags, parameters that are there already are left alone, and a row of metrics that was
logged before is not logged twice. So a mirror that was killed goes on where MLflow says that it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from kinetoscope.core.config_model import Record
from kinetoscope.core.uris import sqlite_path
from kinetoscope.tracking.database import call, connect, exclusive
from kinetoscope.tracking.params import flatten_params
from kinetoscope.tracking.runs.adoption import run_to_adopt
from kinetoscope.tracking.runs.experiment import all_experiments, experiment_id
from kinetoscope.tracking.runs.settling import find_oldest, settle
from kinetoscope.tracking.runs.tags import KEY_TAG, MADE_TAG, PARENT_TAG, RUN_TAG, STEP_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow.entities import Metric, Run, RunTag

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

# MLflow's limits on one batch; tags come along with metrics.
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 900


class MetricRow(Record):
    """A line of a step's ``metrics.jsonl``."""

    step: int
    time: float
    """Seconds since the epoch."""
    metrics: dict[str, float]


@dataclass(slots=True)
class _Known:
    """What is known of a run of MLflow, as it was found and as it was written since."""

    experiment: str
    started_at: float
    status: str
    tags: dict[str, str]
    params: set[str]
    last_steps: dict[str, int]

    @classmethod
    def of(cls, run: Run) -> _Known:
        """Return what MLflow told of a run: of each metric the value of the latest step."""
        return cls(
            experiment=str(run.info.experiment_id),
            started_at=run.info.start_time / 1000,
            status=str(run.info.status),
            tags=dict(run.data.tags),
            params=set(run.data.params),
            last_steps={metric.key: metric.step for metric in run.data.to_proto().metrics},
        )


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
        self._known: dict[str, _Known] = {}

    def open_run(
        self,
        run_id: str,
        *,
        name: str,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        status: Status | None = "RUNNING",
    ) -> str:
        """Return the MLflow id of a pipeline run: found by its tag, or adopted, or made.

        ``MLFLOW_RUN_ID`` in the environment names a run to adopt, or one nested in it.

        Args:
            run_id: our id of the run.
            name: shown in MLflow.
            tags: lineage, e.g. the config's hash.
            params: a nested config, flattened here.
            status: that it has now; None leaves it, and lets a new one be running.
        """
        own = {RUN_TAG: run_id}
        make = partial(self._adopt_or_make, run_id, name)
        with exclusive(self._uri):
            found = settle(self._client, self._experiments(), own, make)
        return self._open(found, {**(tags or {}), **own}, params, status)

    def open_step(
        self,
        parent: str,
        step: str,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        status: Status | None = "RUNNING",
    ) -> str:
        """Return the MLflow id of a step's nested run, reopened when it exists.

        Args:
            parent: MLflow id of the pipeline run.
            step: name of the step.
            tags: e.g. its fingerprint; with another `KEY_TAG` it is another nested run.
            params: the step's own config, flattened here.
            status: that it has now; None leaves it, and lets a new one be running.
        """
        own = {PARENT_TAG: parent, STEP_TAG: step}
        if tags and KEY_TAG in tags:
            own[KEY_TAG] = tags[KEY_TAG]
        experiment = self._look(parent).experiment
        make = partial(self._make, experiment, step, own)
        with exclusive(self._uri):
            found = settle(self._client, [experiment], own, make)
        return self._open(found, {**(tags or {}), **own}, params, status)

    def find_run(self, run_id: str) -> str | None:
        """Return the MLflow id of a pipeline run, or None when it was never opened."""
        found = find_oldest(self._client, self._experiments(), {RUN_TAG: run_id})
        return str(found.info.run_id) if found is not None else None

    def tag(self, tracked: str, name: str) -> str:
        """Return a tag of a run, as it was when it was opened or set since; empty for none."""
        return self._look(tracked).tags.get(name, "")

    def log_rows(
        self, tracked: str, rows: Iterable[MetricRow], tags: Mapping[str, str] | None = None
    ) -> int:
        """Add metrics to a run; returns how many values were new.

        A value is skipped when its metric has one of the same or a later step: a resumed step
        repeats the steps since its last checkpoint, and they are equal by construction. The same
        value at the same time, from another process, MLflow itself keeps once.

        Args:
            tracked: MLflow id of the run.
            rows: by their steps.
            tags: set with the last of them, so that they are there only when all rows are.
        """
        from mlflow.entities import Metric

        last = self._look(tracked).last_steps
        fresh: list[Metric] = []
        for row in rows:
            for key, value in row.metrics.items():
                if row.step > last.get(key, -1):
                    last[key] = row.step
                    fresh.append(Metric(key, float(value), round(row.time * 1000), row.step))
        try:
            self._log_batches(tracked, fresh, tags or {})
        except BaseException:
            self._known.pop(tracked, None)
            raise
        return len(fresh)

    def log_metrics(self, tracked: str, values: Mapping[str, float], step: int = 0) -> None:
        """Add final figures to a run, once: whoever adds them gives them the same time."""
        time = self._look(tracked).started_at
        self.log_rows(tracked, [MetricRow(step=step, time=time, metrics=dict(values))])

    def set_tags(self, tracked: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run, as far as they are not set."""
        known = self._look(tracked).tags
        fresh = {name: value for name, value in tags.items() if known.get(name) != value}
        if fresh:
            call(self._client.log_batch, tracked, tags=_tags(fresh))
            known |= fresh

    def log_artifact(self, tracked: str, path: Path, folder: str | None = None) -> None:
        """Copy a small file to a run's artifacts, replacing one of the same name."""
        call(self._client.log_artifact, tracked, str(path), folder)

    def finish(self, tracked: str, status: Status = "FINISHED") -> None:
        """Set the status of a run or step, as far as it has another."""
        known = self._look(tracked)
        if known.status == status:
            return
        if status == "RUNNING":
            call(self._client.update_run, tracked, status=status)
        else:
            call(self._client.set_terminated, tracked, status=status)
        known.status = status

    def _experiments(self) -> list[str]:
        """Return where a run may be: it may have begun where another experiment was named."""
        return list(dict.fromkeys([self._experiment, *all_experiments(self._client)]))

    def _adopt_or_make(self, run_id: str, name: str) -> Run:
        adopted = run_to_adopt(self._client, self._experiment, run_id)
        if adopted is None:
            return self._make(self._experiment, name, {RUN_TAG: run_id})
        call(self._client.set_tag, adopted.info.run_id, RUN_TAG, run_id)
        return adopted

    def _make(self, experiment: str, name: str, tags: Mapping[str, str]) -> Run:
        made: Run = call(
            self._client.create_run, experiment, tags={**tags, MADE_TAG: "true"}, run_name=name
        )
        return made

    def _open(
        self,
        found: Run,
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None,
        status: Status | None,
    ) -> str:
        tracked = str(found.info.run_id)
        self._known[tracked] = _Known.of(found)
        if status is not None:
            self.finish(tracked, status)
        self.set_tags(tracked, tags)
        self._log_params(tracked, params or {})
        return tracked

    def _log_params(self, tracked: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = self._look(tracked).params
        flat = flatten_params(dict(params)).items()
        fresh = [Param(key, value) for key, value in flat if key not in known]
        for start in range(0, len(fresh), _PARAMS_PER_BATCH):
            call(self._client.log_batch, tracked, params=fresh[start : start + _PARAMS_PER_BATCH])
        known.update(param.key for param in fresh)

    def _log_batches(
        self, tracked: str, metrics: Sequence[Metric], tags: Mapping[str, str]
    ) -> None:
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            end = start + _METRICS_PER_BATCH
            with_last = _tags(tags) if end >= len(metrics) else []
            call(self._client.log_batch, tracked, metrics=metrics[start:end], tags=with_last)
        if metrics:
            self._look(tracked).tags.update(tags)
        else:
            self.set_tags(tracked, tags)

    def _look(self, tracked: str) -> _Known:
        if tracked not in self._known:
            self._known[tracked] = _Known.of(call(self._client.get_run, tracked))
        return self._known[tracked]


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]
