"""What a step is asked to do, and what it says of itself."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kinetoscope.core.config_model import Config, Record
from kinetoscope.core.errors import NotFoundError
from kinetoscope.core.hashing import digest_json
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

RESULT_KEY = "result.json"
STATUS_KEY = "status.json"
# Artifacts that no step reads: a new row in the quarantine list re-trains nothing.
FOR_PEOPLE = frozenset({"grid", "quarantine", "report"})

R = TypeVar("R", bound=Record)

StepState = Literal["waiting", "running", "done", "failed", "stopped"]


class RuntimeConfig(Config):
    """How a step's processes run. Changes no result, so it is not part of the fingerprint."""

    num_processes: PositiveInt = 1
    """Ranks on this machine."""
    threads_per_process: NonNegativeInt = 0
    """CPU threads of each rank; 0 shares the machine's cores evenly."""
    max_restarts: NonNegativeInt = 1
    """Restarts after a crash or a stall; being stopped and wrong input are not restarted."""
    grace_seconds: PositiveFloat = 120.0
    """Time that ranks have to save after they were told to stop."""
    stall_seconds: NonNegativeFloat = 1800.0
    """A step without progress for so long is stopped, its stacks dumped; 0 waits for ever."""


class Artifact(Record):
    """An output: an object, or all objects below a prefix."""

    uri: str
    digest: str
    size_bytes: int


class StepResult(Record):
    """What a step committed."""

    step: str
    fingerprint: str
    generation: int
    uri: str
    artifacts: dict[str, Artifact]
    metrics: dict[str, float] = {}
    summary: dict[str, Any] = {}
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """Digest of what downstream steps read, whoever made it and when."""
        artifacts = self.artifacts.items()
        return digest_json({name: a.digest for name, a in artifacts if name not in FOR_PEOPLE})

    def artifact(self, name: str) -> Artifact:
        """Return an artifact by name; raises ``NotFoundError``."""
        try:
            return self.artifacts[name]
        except KeyError:
            raise NotFoundError(
                f"step {self.step} has no artifact {name!r}, only {sorted(self.artifacts)}"
            ) from None


class StepSpec(Record):
    """All that a supervisor needs to run a step."""

    name: str
    worker: str
    """Module run as ``python -m WORKER``, one process per rank."""
    run_id: str
    root_uri: str
    """Object store of the whole workspace."""
    config: dict[str, Any]
    seed: int
    inputs: dict[str, str]
    """Upstream step URIs by input name."""
    fingerprint: str
    runtime: RuntimeConfig = RuntimeConfig()
    stop_key: str = ""
    """Below the root: once there is such an object, the step saves and stops."""
    origin: dict[str, str] = {}
    """What the step notes of where its results come from, e.g. the digest of the run's config."""

    @property
    def uri(self) -> str:
        """Where the step lives; its fingerprint is part of it, so what is there is its own."""
        return f"{self.root_uri}/steps/{self.name}/{self.fingerprint}"


class Progress(Record):
    """How far a step is."""

    done: float = 0
    total: float = 0
    unit: str = ""
    info: dict[str, float | str] = {}


class Report(Record):
    """What a rank leaves behind when it fails."""

    code: int
    reason: str
    hint: str = ""


class StepStatus(Record):
    """The latest attempt of a step."""

    state: StepState
    generation: int
    code: int | None = None
    reason: str = ""
    hint: str = ""
    started_at: float = 0.0
    """Seconds since the epoch."""
    seconds: float = 0.0
    heartbeat: int = 0
    """Counts up while the supervisor lives."""
    progress: Progress = Field(default_factory=Progress)
    metrics_url: str = ""
    run_id: str = ""


def stop_requested(spec: StepSpec) -> bool:
    """Tell whether somebody asked the step to stop."""
    return bool(spec.stop_key) and open_store(spec.root_uri).stat(spec.stop_key) is not None


def read_result(step_uri: str) -> StepResult | None:
    """Return a step's committed result, or None when it has none."""
    return read_record(open_store(step_uri), RESULT_KEY, StepResult)


def read_status(step_uri: str) -> StepStatus | None:
    """Return the status of a step's latest attempt, or None when it was never started."""
    return read_record(open_store(step_uri), STATUS_KEY, StepStatus)


def read_record(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    """Return a stored record, or None when there is none."""
    try:
        return kind.from_bytes(store.get_bytes(key))
    except NotFoundError:
        return None
