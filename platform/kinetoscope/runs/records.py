"""What a run keeps about itself, at ``<root>/runs/<run id>/``.

run.json              who, when, which config and videos
config.json           the resolved RunConfig
starts/000001.json    each time the run was started or resumed
steps/<name>.json     where each of its steps lives
stop.json             somebody asked the run to stop
failure.json          the step that ended the latest start, and why
end.json              how the latest start ended
report.html           written by the exit handler
"""

from __future__ import annotations

from typing import Literal, Self

from kinetoscope.config.load import read_resolved
from kinetoscope.config.run import RunConfig
from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import ConfigError, KinetoscopeError, NotFoundError
from kinetoscope.steps.contract import read_record
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

RunState = Literal["running", "succeeded", "failed", "stopped", "interrupted"]

STOP_KEY = "stop.json"
_CONFIG_KEY = "config.json"
_END_KEY = "end.json"
_FAILURE_KEY = "failure.json"


class RunRecord(Record):
    """A run, as it was asked for."""

    run_id: str
    name: str
    created_at: float
    root_uri: str
    videos: str
    videos_digest: str
    steps: list[str]
    """Names of its steps, in the pipeline's order."""
    code_version: str = ""


class Start(Record):
    """One time that the run was started or resumed."""

    process: ProcessIdentity
    started_at: float


class StepRecord(Record):
    """A step of a run: where it lives, and whether the run found it done."""

    name: str
    uri: str
    cached: bool


class Failure(Record):
    """Why a step ended the run."""

    step: str
    code: int
    reason: str
    hint: str = ""

    @classmethod
    def of(cls, step: str, error: KinetoscopeError) -> Self:
        """Return what an error in a step says."""
        return cls(step=step, code=error.exit_code, reason=error.message, hint=error.hint or "")


class End(Record):
    """How a start of the run ended."""

    state: RunState
    reason: str = ""
    hint: str = ""
    step: str = ""
    code: int = 0
    finished_at: float = 0.0


class Run:
    """Reads and writes a run's records."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @property
    def record(self) -> RunRecord:
        """The run itself; raises ``NotFoundError``."""
        return RunRecord.from_bytes(self.store.get_bytes("run.json"))

    @property
    def config(self) -> RunConfig:
        """The resolved config; raises ``ConfigError`` where this version has no such config."""
        data = self.store.get_bytes(_CONFIG_KEY)
        try:
            return read_resolved(data, f"what run {self.record.run_id} was started with")
        except ConfigError as error:
            raise ConfigError(
                error.message,
                hint="another version began the run: go on with that one, or start a new run",
            ) from None

    def create(self, record: RunRecord, config_json: bytes) -> None:
        """Write a new run; its record last, since a run is there when its record is."""
        self.store.put_bytes(_CONFIG_KEY, config_json)
        self.store.put_bytes("run.json", record.to_bytes())

    def begin(self, start: Start) -> None:
        """Note a start; forgets an earlier stop and end."""
        for key in (STOP_KEY, _END_KEY, _FAILURE_KEY):
            self.store.delete(key)
        number = len(self.store.list("starts")) + 1
        self.store.put_bytes(f"starts/{number:06d}.json", start.to_bytes())

    def finish(self, end: End) -> None:
        """Note how this start ended."""
        self.store.put_bytes(_END_KEY, end.to_bytes())

    def note_failure(self, failure: Failure) -> None:
        """Note why this start ends; the first reason stays."""
        self.store.put_bytes_if_absent(_FAILURE_KEY, failure.to_bytes())

    def failure(self) -> Failure | None:
        """Return why the latest start ended, or None where no step told."""
        return read_record(self.store, _FAILURE_KEY, Failure)

    def end(self) -> End | None:
        """Return how the latest start ended, or None while it has not."""
        return read_record(self.store, _END_KEY, End)

    def latest_start(self) -> Start | None:
        """Return the latest start."""
        stats = self.store.list("starts")
        return Start.from_bytes(self.store.get_bytes(stats[-1].key)) if stats else None

    def state(self) -> RunState:
        """Return the run's state; a run whose process is gone without an end was interrupted."""
        end = self.end()
        if end is not None:
            return end.state
        start = self.latest_start()
        gone = start is None or start.process.is_known_dead()
        return "interrupted" if gone else "running"

    def request_stop(self) -> None:
        """Ask the run's steps to save and stop."""
        self.store.put_bytes(STOP_KEY, b"{}")

    def note_step(self, record: StepRecord) -> None:
        """Note where a step lives; a step that this run made itself stays its own on resume."""
        before = self.step(record.name)
        if before is None or before.uri != record.uri:
            self.store.put_bytes(f"steps/{record.name}.json", record.to_bytes())

    def step(self, name: str) -> StepRecord | None:
        """Return a step's record, or None when the run has not come to it."""
        return read_record(self.store, f"steps/{name}.json", StepRecord)


def open_run(run_uri: str) -> Run:
    """Open the records at a run's URI."""
    return Run(open_store(run_uri))


def stop_requested(run_uri: str) -> bool:
    """Tell whether somebody asked the run to stop."""
    return open_store(run_uri).stat(STOP_KEY) is not None


def list_runs(root_uri: str) -> list[Run]:
    """Return all runs, the newest first."""
    root = open_store(root_uri)
    keys = [stat.key for stat in root.list("runs") if stat.key.count("/") == 2]  # noqa: PLR2004
    ids = [key.split("/")[1] for key in keys if key.endswith("/run.json")]
    runs = [open_run(f"{root_uri}/runs/{run_id}") for run_id in ids]
    return sorted(runs, key=lambda run: run.record.created_at, reverse=True)


def find_run(root_uri: str, name: str) -> Run:
    """Return a run by its id, a unique prefix of it, or ``last``; raises ``NotFoundError``."""
    runs = list_runs(root_uri)
    if name == "last" and runs:
        return runs[0]
    found = [run for run in runs if run.record.run_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(run.record.run_id for run in (found or runs)[:10])
    what = f"{len(found)} runs match" if found else "there is no run"
    raise NotFoundError(
        f"{what} {name!r} in {root_uri}",
        hint=f"runs: {ids}" if ids else "start one with kino run",
    )
