"""The kinds of records that a run keeps."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.data.report.bucket_table import BucketTable
from kinetoscope.steps.contract import STEPS, VideosInput
from kinetoscope.steps.process_identity import ProcessIdentity

BEGIN, FINISH = "begin_run", "finish_run"
"""Names of the pipeline's first task and of its exit handler, which are no steps."""

RunState = Literal["running", "succeeded", "failed", "stopped", "interrupted"]


class RunRecord(Record):
    """A run, as it was asked for."""

    run_id: str
    name: str
    created_at: float
    videos: VideosInput
    config_digest: str
    """Of the bytes of ``config.json``."""
    weights: dict[str, str] = {}
    """Digests of the files of weights that the config names, by path."""
    steps: list[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]]
    """Names of its steps, in the pipeline's order."""
    code_version: str = ""


class MovedVideos(Record):
    """Somebody said that the videos lie elsewhere now."""

    place: str
    """As `storage.open.portable_place` writes it."""


class PlannedBuckets(Record):
    """How the clips to train on fall into the buckets of the stages that have some."""

    tables: dict[str, BucketTable]
    """By the name of the stage's step."""


class Start(Record):
    """One time that the run was started or resumed."""

    process: ProcessIdentity
    started_at: float
    place: str = ""
    """Which copy of the store it began in (`storage.open.place_of`)."""
    number: NonNegativeInt = 0
    """Counts the run's starts; 0 in those of versions that gave a start no folder of its own."""
    job_id: str = ""
    """The pipeline backend's own id of what runs it; empty on a laptop."""


class Beat(Record):
    """A sign of life of the host of a start."""

    count: int
    at: float
    """Seconds since the epoch, by the host's clock."""


class StepRecord(Record):
    """A step of a run: where it lives, and whether the run found it done."""

    name: str
    key: str
    """Below the root: ``steps/<name>/<fingerprint>``."""
    cached: bool
    start: int = 0
    """Number of the latest start that came to it."""
    inputs: dict[str, str] = {}
    """Digests of the upstream results that it works on, by input name."""
    before: tuple[str, ...] = ()
    """Where the run had this step earlier: kept as long as the run is."""

    @model_validator(mode="after")
    def _names_a_step(self) -> Self:
        for key in (self.key, *self.before):
            folder, name, *rest = key.split("/")
            if (folder, name, len(rest)) != (STEPS, self.name, 1) or rest[0] in ("", ".", ".."):
                raise ValueError(f"{key!r} is no place of a step {self.name!r}")
        return self


class FreshRequest(Record):
    """Somebody asked for a step to be made anew."""

    name: str


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
