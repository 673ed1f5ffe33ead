"""What a step is asked to do, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kinetoscope.core.config_model import Config, Record
from kinetoscope.core.errors import NotFoundError
from kinetoscope.core.hashing import digest_json
from kinetoscope.storage.keys import join_uri, split_uri
from kinetoscope.storage.open import open_store, resolve_place
from kinetoscope.storage.records import read_record

STEPS = "steps"
RESULT_KEY = "result.json"
ATTEMPTS = "attempts"
JOINED = "joined"
"""File that a node's rank leaves for its supervisor: the attempt that it is in."""
# Artifacts that no step reads: a new row in the quarantine list re-trains nothing.
FOR_PEOPLE = frozenset({"grid", "quarantine", "report"})
# The manifest of a checkpoint names the attempt that wrote it: not content.
_NOT_CONTENT = "MANIFEST.json"

StepState = Literal["waiting", "running", "done", "failed", "stopped"]


class RuntimeConfig(Config):
    """How a step's processes run. Changes no result, so it is not part of the fingerprint."""

    num_nodes: PositiveInt = 1
    """Machines; on a laptop, supervisors that share it. More than one is for training alone."""
    num_processes: PositiveInt = 1
    """Ranks on each machine."""
    threads_per_process: NonNegativeInt = 0
    """CPU threads of each rank; 0 shares a machine's cores evenly."""
    max_restarts: NonNegativeInt = 1
    """Restarts after a crash or a stall; being stopped and wrong input are not restarted."""
    grace_seconds: PositiveFloat = 120.0
    """Time that ranks have to save after they were told to stop."""
    stall_seconds: NonNegativeFloat = 1800.0
    """A step without progress for so long is stopped, its stacks dumped; 0 waits for ever."""
    collective_timeout_minutes: float = Field(default=30.0, gt=0, le=7 * 24 * 60)
    """How long ranks that train wait for one that does not come, before they count it as lost;
    longer than any step and any save."""

    @property
    def num_ranks(self) -> int:
        """Ranks of all machines."""
        return self.num_nodes * self.num_processes


class Artifact(Record):
    """An output: an object, or all objects below a prefix."""

    key: str
    """Below the step."""
    digest: str
    size_bytes: int


class StepResult(Record):
    """What a step committed."""

    step: str
    fingerprint: str
    generation: int
    artifacts: dict[str, Artifact]
    metrics: dict[str, float] = {}
    summary: dict[str, Any] = {}
    seconds: float = 0.0
    code_versions: tuple[str, ...] = ()
    """Of the attempts that worked on it, oldest first."""
    uri: str = Field(default="", exclude=True)
    """Where the step lives; not stored, since a store can be moved."""

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

    def artifact_uri(self, name: str) -> str:
        """Return where an artifact lies; raises ``NotFoundError``."""
        return join_uri(self.uri, self.artifact(name).key)


class VideosInput(Record):
    """The source videos of a run, as the steps that read them are told."""

    place: str
    """Where they lie, as `storage.open.portable_place` writes it."""
    digest: str = ""
    """Of the list of them, which is what they are to the run."""
    list_key: str = ""
    """Below the root: the list (`data.sources.listing`)."""
    num_left_out: int = 0
    """Folders of our own in the place."""


class StepSpec(Record):
    """All that a supervisor needs to run a step."""

    name: str
    worker: str
    """Module run as ``python -m WORKER``, one process per rank."""
    run_id: str
    config: dict[str, Any]
    seed: int
    inputs: dict[str, str]
    """Keys of the upstream steps, below the root, by input name."""
    fingerprint: str
    videos: VideosInput | None = None
    """None where a step reads none."""
    code_version: str = ""
    """Of what the worker can reach."""
    root_uri: str = Field(default="", exclude=True)
    """Object store of the whole workspace; not stored, since a store can be moved."""
    runtime: RuntimeConfig = RuntimeConfig()
    start: NonNegativeInt = 0
    """Number of the run's start that it is run for."""
    stop_key: str = ""
    """Below the root: once there is such an object, the step saves and stops."""
    launcher_key: str = ""
    """Below the root: an object that changes while the step's launcher lives; empty where it has
    none, as on a laptop."""
    orphan_minutes: PositiveFloat = 15.0
    """Without a sign of life of its launcher for so long, the step saves and stops for good."""
    reserve_key: str = ""
    """Below the root: an object that only takes up the room to say that a disk is full."""
    origin: dict[str, str] = {}
    """What the step notes of where its results come from, e.g. the digest of the run's config."""

    @property
    def videos_place(self) -> str:
        """Where the source videos lie: an absolute path, or a URI."""
        if self.videos is None:
            raise NotFoundError(f"step {self.name} was given no videos")
        return resolve_place(self.root_uri, self.videos.place)

    @property
    def key(self) -> str:
        """Where the step lives; its fingerprint is part of it, so what is there is its own."""
        return step_key(self.name, self.fingerprint)

    @property
    def uri(self) -> str:
        """Where the step lives."""
        return join_uri(self.root_uri, self.key)


class Progress(Record):
    """How far a step is."""

    done: float = 0
    total: float = 0
    unit: str = ""
    info: dict[str, float | str] = {}
    kept: float = 0
    """As much of it as a later attempt goes on from."""
    began: float = 0
    """``kept`` when this attempt first told of it."""

    @property
    def added(self) -> float:
        """How much this attempt has added to what a later one goes on from."""
        return max(0.0, self.kept - self.began)


class Report(Record):
    """What a rank leaves behind when it fails."""

    code: int
    reason: str
    hint: str = ""


class StepStatus(Record):
    """How an attempt of a step fares, as the supervisor of one of its nodes tells."""

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
    node: NonNegativeInt = 0
    num_nodes: PositiveInt = 1


def step_key(name: str, fingerprint: str) -> str:
    """Return the key of a step below the root."""
    return f"{STEPS}/{name}/{fingerprint}"


def attempt_key(generation: int, node: int = 0) -> str:
    """Return the key prefix of all that a node tells of its part of an attempt."""
    prefix = f"{ATTEMPTS}/{generation:06d}"
    return f"{prefix}/nodes/{node}" if node else prefix


def status_key(generation: int, node: int = 0) -> str:
    """Return the key of a node's status; the first node's is the attempt's."""
    return f"{attempt_key(generation, node)}/status.json"


def split_step_uri(step_uri: str) -> tuple[str, str]:
    """Return name and fingerprint of the step that lives at a URI."""
    name, fingerprint = step_uri.split("/")[-2:]
    return name, fingerprint


def step_identity(name: str, fingerprint: str) -> str:
    """Return what tells a step from all others, e.g. ``train_dit_1/0123456789abcdef``."""
    return f"{name}/{fingerprint}"


def make_again(step: str, run_id: str = "RUN") -> str:
    """Return what to do where a step's result, or what it made, is damaged or gone."""
    return f"kino resume {run_id} --fresh {step} makes the step again"


def artifact_digest(key: str, digests: Mapping[str, str]) -> str:
    """Return an artifact's digest from those of its objects by key, whatever its own key is."""
    content = {
        name.removeprefix(key): digest
        for name, digest in digests.items()
        if not name.endswith(_NOT_CONTENT)
    }
    return digest_json(content)


def spec_key(run_id: str, start: int) -> str:
    """Return the key, below the step, of what a start of a run gave it to do."""
    return f"specs/{run_id}/{start:06d}.json"


def write_spec(spec: StepSpec) -> str:
    """Write a spec beside its step, one per start of a run; return its URI."""
    key = spec_key(spec.run_id, spec.start)
    open_store(spec.uri).put_bytes(key, spec.to_bytes())
    return join_uri(spec.uri, key)


def read_spec(spec_uri: str) -> StepSpec:
    """Read a spec.

    Raises:
        NotFoundError: there is none.
        CorruptError: it was changed.
    """
    root_uri, key = split_uri(spec_uri, STEPS)
    spec = read_record(open_store(root_uri), key, StepSpec)
    if spec is None:
        raise NotFoundError(f"no step spec at {spec_uri}")
    return spec.model_copy(update={"root_uri": root_uri})


def latest_spec(step_uri: str, run_id: str) -> StepSpec | None:
    """Return what a run's latest start gave a step to do, or None where the run found it done."""
    store = open_store(step_uri)
    keys = [stat.key for stat in store.list(f"specs/{run_id}")]
    # Earlier versions wrote one for all starts of a run.
    return read_record(store, keys[-1] if keys else f"specs/{run_id}.json", StepSpec)


def latest_start(spec: StepSpec) -> int:
    """Return the number of the latest start of a spec's run that has come to the step."""
    keys = [stat.key for stat in open_store(spec.uri).list(f"specs/{spec.run_id}")]
    numbers = [key.rpartition("/")[2].removesuffix(".json") for key in keys]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def stop_requested(spec: StepSpec) -> bool:
    """Tell whether somebody asked the step to stop."""
    return bool(spec.stop_key) and open_store(spec.root_uri).stat(spec.stop_key) is not None


def make_room(spec: StepSpec) -> None:
    """Give back the room that was kept to say that a disk is full."""
    if spec.reserve_key:
        open_store(spec.root_uri).delete(spec.reserve_key)
