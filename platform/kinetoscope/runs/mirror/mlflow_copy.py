"""What MLflow is told of a run: all that its records say now.

Nothing is remembered but in MLflow itself: tags of a step's nested run say how far its rows were
read, and that all of a finished step is there. So any number of processes may tell the same.
"""

from __future__ import annotations

import tempfile
import time
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.runs.mirror.rows import read_on, rows_of_attempts
from kinetoscope.runs.records import RUNS
from kinetoscope.runs.view import step_results
from kinetoscope.steps.contract import latest_spec
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import as_local, open_store
from kinetoscope.tracking.runs.tags import KEY_TAG
from kinetoscope.tracking.tracker import Status, Tracker

if TYPE_CHECKING:
    from kinetoscope.runs.record_types import End, StepRecord
    from kinetoscope.runs.records import Run
    from kinetoscope.runs.starts.start import RunStart
    from kinetoscope.steps.contract import StepResult

# How often to look whether MLflow's runs are still those that they were.
_LOOK_SECONDS = 60.0
_MAX_ARTIFACT_BYTES = 32 << 20
_SHOWN_ARTIFACTS = ("report", "grid", "metrics", "quarantine")
_SAMPLE = "sample.mp4"
_OF_A_RUN: dict[str, Status] = {"succeeded": "FINISHED", "stopped": "KILLED"}
_OF_AN_ATTEMPT: dict[str, Status] = {"failed": "FAILED", "stopped": "KILLED"}
_TAG = "kinetoscope.dev"
_COMPLETE = f"{_TAG}/mirrored"


class MlflowCopy:
    """Brings the copy of a run up to date, as often as it is asked to.

    Args:
        run: to be copied.
        start: that this process works for; a later one tells MLflow itself how the run fares.
    """

    def __init__(self, run: Run, start: RunStart) -> None:
        self._run = run
        self._start = start
        self._tracker: Tracker | None = None
        self._looked_at = 0.0
        self._parent = ""
        self._steps: dict[str, str] = {}
        self._complete: dict[str, StepRecord] = {}
        self.num_told = 0
        """Grows with all that MLflow has taken."""

    def sync(self, *, last: bool) -> None:
        """Tell MLflow what is new.

        Args:
            last: whether this process comes to its end: then what has ended without a word of the
                whole run's end is told as such.

        Raises:
            SupersededError: a later start has begun.
            Exception: MLflow or the store did not answer, or has lost what was told.
        """
        self._run.check_latest(self._start)
        end = self._start.end()
        try:
            self._tell(end, last=last)
            # Who told the end may have done so just before this process told of the time before.
            if end is None and self._start.has_ended():
                end = self._start.end()
                self._tell(end, last=True)
        except Exception:
            self._looked_at = 0.0
            raise
        if end is not None:
            self._start.note_mirrored()

    def _tell(self, end: End | None, *, last: bool) -> None:
        if last or time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        tracker = self._tracker
        assert tracker is not None
        fares: dict[str, Status] = {}
        for name in self._run.record.steps:
            record = None if self._is_complete(name) else self._run.step(name)
            if record is not None:
                fares[name] = self._tell_step(tracker, record, end, last=last)
        self._tell_run(tracker, end, fares)

    def _is_complete(self, name: str) -> bool:
        """Tell whether MLflow has all of a step, and this start comes to it no more."""
        record = self._complete.get(name)
        return record is not None and record.start == self._start.number

    @cached_property
    def _params(self) -> dict[str, Any]:
        """The run's config, read once."""
        return self._run.config.to_json()

    def _look(self) -> None:
        """Find the run in MLflow; its steps are found when it is their turn."""
        if self._tracker is None:
            self._tracker = Tracker(tracking_uri(), workspace().artifacts_path)
        record = self._run.record
        self._steps.clear()
        self._parent = self._tracker.open_run(
            record.run_id,
            name=f"{record.name}-{record.run_id}",
            tags={
                f"{_TAG}/config-hash": record.config_digest,
                f"{_TAG}/data-digest": record.videos.digest,
                f"{_TAG}/code-version": record.code_version,
                f"{_TAG}/run-key": f"{RUNS}/{self._run.run_id}",
            },
            params=self._params,
            status=None,
        )
        self._looked_at = time.monotonic()
        self.num_told += 1

    def _tell_step(
        self, tracker: Tracker, record: StepRecord, end: End | None, *, last: bool
    ) -> Status:
        """Tell of a step that was begun, or found done; return how it fares."""
        uri = self._run.step_uri(record)
        # The result first: rows that come after this look are not missed at the end.
        result = read_result(uri)
        if record.key not in self._steps:
            self._steps[record.key] = self._open_step(tracker, record)
        tracked = self._steps[record.key]
        if result is None or tracker.tag(tracked, _COMPLETE) != record.key:
            self._tell_rows(tracker, tracked, uri)
        if result is None:
            status = self._status(uri, end, last=last)
            tracker.finish(tracked, status)
            return status
        if tracker.tag(tracked, _COMPLETE) != record.key:
            self._tell_result(tracker, tracked, result)
        tracker.finish(tracked, "FINISHED")
        tracker.set_tags(tracked, {_COMPLETE: record.key})
        self._complete[record.name] = record
        return "FINISHED"

    def _open_step(self, tracker: Tracker, record: StepRecord) -> str:
        spec = latest_spec(self._run.step_uri(record), self._run.run_id)
        tags = {KEY_TAG: record.key, f"{_TAG}/cached": str(record.cached).lower()}
        inputs = spec.inputs if spec is not None else {}
        tags |= {f"{_TAG}/input.{name}": key for name, key in inputs.items()}
        params = spec.config if spec is not None else {}
        return tracker.open_step(self._parent, record.name, tags=tags, params=params, status=None)

    def _tell_rows(self, tracker: Tracker, tracked: str, uri: str) -> None:
        store = open_store(uri)
        for rows in rows_of_attempts(store):
            mark = f"{_TAG}/rows/{rows.attempt}"
            offset = int(tracker.tag(tracked, mark) or 0)
            for read, end in read_on(store, rows, offset):
                tracker.log_rows(tracked, read, {mark: str(end)})
                self.num_told += 1

    def _tell_result(self, tracker: Tracker, tracked: str, result: StepResult) -> None:
        tracker.log_metrics(tracked, result.metrics)
        digests = {f"{_TAG}/artifact.{name}": a.digest for name, a in result.artifacts.items()}
        tracker.set_tags(tracked, digests)
        store = open_store(result.uri)
        with tempfile.TemporaryDirectory() as scratch:
            for name, artifact in result.artifacts.items():
                for stat in store.list(artifact.key):
                    shown = name in _SHOWN_ARTIFACTS or PurePosixPath(stat.key).name == _SAMPLE
                    if shown and stat.size_bytes <= _MAX_ARTIFACT_BYTES:
                        tracker.log_artifact(tracked, as_local(store, stat.key, Path(scratch)))
                        self.num_told += 1

    def _status(self, uri: str, end: End | None, *, last: bool) -> Status:
        """Return how a step fares that has no result."""
        told = read_status(uri) if last or end is not None else None
        ended = _OF_AN_ATTEMPT.get(told.state if told is not None else "")
        return ended or ("RUNNING" if end is None else "FAILED")

    def _tell_run(self, tracker: Tracker, end: End | None, fares: dict[str, Status]) -> None:
        """Tell how the whole run fares, given how those of its steps do that were looked at.

        Nobody may come to note its end, as after a retry in Kubeflow's pages; then it is what its
        steps come to.
        """
        if end is None:
            done = all(self._is_complete(name) for name in self._run.record.steps)
            tracker.finish(self._parent, "FINISHED" if done else _of_steps(fares))
            return
        for result in step_results(self._run).values():
            tracker.log_metrics(self._parent, result.metrics)
        if self._start.has_report():
            with tempfile.TemporaryDirectory() as scratch:
                report = as_local(self._run.store, self._start.report_key, Path(scratch))
                tracker.log_artifact(self._parent, report)
        tracker.finish(self._parent, _OF_A_RUN.get(end.state, "FAILED"))


def _of_steps(fares: dict[str, Status]) -> Status:
    """Return how a run fares whose end nobody has noted, and of which some step is not done."""
    told = fares.values()
    ended: list[Status] = [status for status in ("FAILED", "KILLED") if status in told]
    return ended[0] if ended and "RUNNING" not in told else "RUNNING"
