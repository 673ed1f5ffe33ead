"""What a launcher tells the store of its job, for ``kino status``, long after the pods are gone.

That the record changes is the launcher's sign of life, too: training whose launcher is gone ends by
itself (`steps.nodes.sign_of_life`). Readers need nothing of Kubernetes.
"""

from __future__ import annotations

from pydantic import NonNegativeInt

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import CorruptError
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore


class JobReason(Record):
    """Why a job does not run, or what went wrong (`kube.jobs.state.Reason`)."""

    kind: str
    subject: str
    message: str
    hint: str = ""


class PodFailure(Record):
    """A pod that ended badly, or was lost with its machine; restarts delete such pods."""

    uid: str
    pod: str
    node: str
    """The machine that it ran on."""
    rank: int
    """Of the pod in the job."""
    restart: int
    """How often the job's pods had been made anew before."""
    exit_code: int | None
    kind: str
    """As of a `JobReason`: out-of-memory, evicted, node-lost, exit."""
    why: str
    last_lines: str = ""
    at: float
    """When it was seen, in seconds since the epoch."""


class PodPlace(Record):
    """A pod of the job as it is now."""

    rank: int
    pod: str
    node: str
    phase: str


class JobRecord(Record):
    """A training job as its launcher sees it."""

    count: NonNegativeInt = 0
    """Counts up while the launcher lives."""
    at: float = 0.0
    """Seconds since the epoch, by the launcher's clock."""
    launcher: str = ""
    """Host name of the launcher's pod."""
    job: str
    namespace: str
    state: str = "pending"
    """As of an `Observation`, or ``waiting`` for another run's job."""
    since: float = 0.0
    reasons: tuple[JobReason, ...] = ()
    pods: tuple[PodPlace, ...] = ()
    failures: tuple[PodFailure, ...] = ()
    """The latest of all restarts, oldest first."""
    counted_restarts: NonNegativeInt = 0


def read_job_record(store: ObjectStore, key: str) -> JobRecord | None:
    """Return what a launcher told; None where it has told nothing that can be read."""
    try:
        return read_record(store, key, JobRecord)
    except CorruptError:
        return None
