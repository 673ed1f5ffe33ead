"""Mirror a run's records into MLflow while it runs.

The records in the object store are the truth; MLflow gets a copy. So a tracking server that is
slow, full or gone never holds a step up, and what it missed is added when it is back, or when the
run is resumed.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from pathlib import Path, PurePosixPath

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import SupersededError
from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.runs.record_types import StepRecord
from kinetoscope.runs.records import RUNS, Run
from kinetoscope.runs.view import step_results
from kinetoscope.steps.contract import ATTEMPTS, StepResult, latest_spec
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import as_local, open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.tracker import MetricRow, Status, Tracker

_SYNC_SECONDS = 5.0
_MAX_ARTIFACT_BYTES = 32 << 20
_SHOWN_ARTIFACTS = ("report", "grid", "metrics", "quarantine")
_SAMPLE = "sample.mp4"
_STATUS: dict[str, Status] = {"succeeded": "FINISHED", "stopped": "KILLED"}
_TAG = "kinetoscope.dev"

_log = logging.getLogger(__name__)


class Mirror:
    """Follows one run from a thread of its host."""

    def __init__(self, run: Run, config: RunConfig) -> None:
        self._run = run
        self._start = run.own_start()
        self._config = config
        self._tracker: Tracker | None = None
        self._parent = ""
        self._steps: dict[str, str] = {}
        self._finished: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self) -> None:
        """Copy what is missing and close the run in MLflow."""
        self._ended.set()
        self._thread.join()
        try:
            self._run.check_latest(self._start)  # a later start tells MLflow how the run fares
            self._sync()
            self._close()
            self._start.note_mirrored()
        except Exception as error:
            _log.warning("MLflow does not have all of this run: %s", error)

    def _follow(self) -> None:
        while not self._ended.wait(_SYNC_SECONDS):
            try:
                self._run.check_latest(self._start)
                self._sync()
            except SupersededError:
                return
            except Exception as error:  # whatever ails MLflow, the run goes on
                _log.warning("MLflow is behind: %s", error)

    def _sync(self) -> None:
        tracker = self._tracker or self._open()
        for name in self._run.record.steps:
            record = self._run.step(name)
            if record is not None and name not in self._finished:
                self._sync_step(tracker, record)

    def _open(self) -> Tracker:
        tracker = Tracker(tracking_uri(), workspace().artifacts_path)
        record = self._run.record
        config = self._config.to_json()
        self._parent = tracker.open_run(
            record.run_id,
            name=f"{record.name}-{record.run_id}",
            tags={
                f"{_TAG}/config-hash": record.config_digest,
                f"{_TAG}/data-digest": record.videos.digest,
                f"{_TAG}/code-version": record.code_version,
                f"{_TAG}/run-key": f"{RUNS}/{self._run.run_id}",
            },
            params=config,
        )
        self._tracker = tracker
        return tracker

    def _sync_step(self, tracker: Tracker, record: StepRecord) -> None:
        uri = self._run.step_uri(record)
        store = open_store(uri)
        if record.name not in self._steps:
            self._steps[record.name] = self._open_step(tracker, record)
        tracked = self._steps[record.name]
        # The result first: rows that come after this look are not missed at the end.
        result = read_result(uri)
        rows = [stat for stat in store.list(ATTEMPTS) if stat.key.endswith("/metrics.jsonl")]
        for stat in rows:
            if stat.size_bytes > self._offsets.get(f"{record.key}/{stat.key}", 0):
                self._log_rows(tracker, tracked, store, record.key, stat.key)
        if result is not None:
            self._log_result(tracker, tracked, result)
            tracker.finish(tracked, "FINISHED")
            self._finished.add(record.name)

    def _open_step(self, tracker: Tracker, record: StepRecord) -> str:
        spec = latest_spec(self._run.step_uri(record), self._run.run_id)
        tags = {f"{_TAG}/step-key": record.key, f"{_TAG}/cached": str(record.cached).lower()}
        inputs = spec.inputs if spec is not None else {}
        tags |= {f"{_TAG}/input.{name}": key for name, key in inputs.items()}
        params = spec.config if spec is not None else {}
        return tracker.open_step(self._parent, record.name, tags=tags, params=params)

    def _log_rows(
        self, tracker: Tracker, tracked: str, store: ObjectStore, step: str, key: str
    ) -> None:
        data = store.get_bytes(key)
        offset = self._offsets.get(f"{step}/{key}", 0)
        # A row whose end has not been shipped yet waits for the next look.
        whole = data.rfind(b"\n") + 1
        rows = [MetricRow.model_validate_json(line) for line in data[offset:whole].splitlines()]
        tracker.log_rows(tracked, rows)
        self._offsets[f"{step}/{key}"] = whole

    def _log_result(self, tracker: Tracker, tracked: str, result: StepResult) -> None:
        tracker.log_metrics(tracked, result.metrics)
        tracker.set_tags(
            tracked,
            {f"{_TAG}/artifact.{name}": a.digest for name, a in result.artifacts.items()},
        )
        with tempfile.TemporaryDirectory() as scratch:
            for name, artifact in result.artifacts.items():
                store = open_store(result.uri)
                for stat in store.list(artifact.key):
                    shown = name in _SHOWN_ARTIFACTS or PurePosixPath(stat.key).name == _SAMPLE
                    if shown and stat.size_bytes <= _MAX_ARTIFACT_BYTES:
                        tracker.log_artifact(tracked, as_local(store, stat.key, Path(scratch)))

    def _close(self) -> None:
        tracker = self._tracker
        if tracker is None:
            return
        for name, tracked in self._steps.items():
            record = self._run.step(name)
            status = read_status(self._run.step_uri(record)) if record is not None else None
            if name not in self._finished:
                stopped = status is not None and status.state == "stopped"
                tracker.finish(tracked, "KILLED" if stopped else "FAILED")
        for result in step_results(self._run).values():
            tracker.log_metrics(self._parent, result.metrics)
        if self._start.has_report():
            with tempfile.TemporaryDirectory() as scratch:
                report = as_local(self._run.store, self._start.report_key, Path(scratch))
                tracker.log_artifact(self._parent, report)
        end = self._start.end()
        tracker.finish(self._parent, _STATUS.get(end.state if end else "", "FAILED"))
