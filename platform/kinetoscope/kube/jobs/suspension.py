"""Suspending a training job and lifting that again, with a note of who did it and why.

Only who suspended a job, or a new start of the run, lifts it: what somebody without a note
suspended (``kubectl``, a queue) stays so until they lift it. Where Kueue starts a job it would
start again whatever we suspend, so there the job's Workload is made inactive instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from kinetoscope.kube.config import QUEUE_LABEL
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.render import GROUP, TRAIN_JOBS, VERSION
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.template import Manifest
from kinetoscope.kube.jobs.which import ANY, Which
from kinetoscope.kube.patience import patiently

SUSPENSION_ANNOTATION = "kinetoscope.dev/suspended"
_KUEUE = ("kueue.x-k8s.io", "v1beta1")
_WORKLOADS = "workloads"
_JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
# Up to the year 3000, since anybody may write an annotation.
Moment = Annotated[float, Field(ge=0, lt=32_503_680_000)]


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why a job is suspended.

    Args:
        by: who did it, e.g. ``launcher of run rabc2345, start 1``.
        why: in words.
        kind: ``gang``: whoever did it lifts it at a time; ``stop``: a new start of the run does.
        at: seconds since the epoch.
        until: when it is to be lifted, in seconds since the epoch; 0: nobody knows.
    """

    by: str
    why: str
    kind: Literal["gang", "stop"] = "stop"
    at: Moment = 0.0
    until: Moment = 0.0


_NOTE = TypeAdapter(Suspension)


def suspend(
    cluster: Cluster, job: TrainingJob, suspension: Suspension, *, which: Which = ANY
) -> None:
    """Tell all pods to save and leave; they get their whole grace, and `resume` brings them back.

    Args:
        cluster: where it runs.
        job: as submitted.
        suspension: who does it, and why.
        which: TrainJob of that name is meant.

    Raises:
        ApiError: `AbsentError` when there is no such job, `ConflictError` when it is another one.
    """
    path = (job.namespace, job.name)
    _set(cluster, path, which, suspended=True, note=json.dumps(asdict(suspension)))


def suspend_seen(cluster: Cluster, train_job: Manifest, suspension: Suspension) -> None:
    """Suspend a job, unless somebody has changed it since it was seen.

    Args:
        cluster: where it runs.
        train_job: as it was seen.
        suspension: who does it, and why.

    Raises:
        ApiError: as `suspend` does.
    """
    metadata = train_job["metadata"]
    path = (metadata["namespace"], metadata["name"])
    note = json.dumps(asdict(suspension))
    _set(cluster, path, Which.of(metadata), suspended=True, note=note)


def resume(cluster: Cluster, job: TrainingJob, *, which: Which = ANY) -> None:
    """Continue a suspended job; new pods start when the old ones are gone.

    Raises:
        ApiError: as `suspend` does.
    """
    _set(cluster, (job.namespace, job.name), which, suspended=False, note=None)


def read_suspension(train_job: Mapping[str, Any]) -> Suspension | None:
    """Return the note of who suspended a job; None where nobody left one that can be read."""
    text = (train_job["metadata"].get("annotations") or {}).get(SUSPENSION_ANNOTATION)
    try:
        return _NOTE.validate_json(text or "")
    except ValidationError:
        return None


def is_queued(train_job: Mapping[str, Any]) -> bool:
    """Tell whether Kueue starts and suspends a job."""
    return QUEUE_LABEL in (train_job["metadata"].get("labels") or {})


def _set(
    cluster: Cluster, job: tuple[str, str], meant: Which, *, suspended: bool, note: str | None
) -> None:
    namespace, name = job
    path = (GROUP, VERSION, namespace, TRAIN_JOBS, name)
    found = patiently(lambda: cluster.custom.get_namespaced_custom_object(*path))
    uid = found["metadata"]["uid"]
    which = {"uid": uid, **meant.to_json()}
    patch: Manifest = {"metadata": {**which, "annotations": {SUSPENSION_ANNOTATION: note}}}
    if not is_queued(found):
        patch["spec"] = {"suspend": suspended}
    patiently(lambda: cluster.custom.patch_namespaced_custom_object(*path, patch))
    if is_queued(found):
        _set_active(cluster, namespace, uid, not suspended)


def _set_active(cluster: Cluster, namespace: str, uid: str, value: bool) -> None:
    """Let Kueue start the pods of a job, or take them away: the Workload is the queue's own."""
    custom, which = cluster.custom, (*_KUEUE, namespace, _WORKLOADS)
    selector = f"{_JOB_UID_LABEL}={uid}"
    found = patiently(lambda: custom.list_namespaced_custom_object(*which, label_selector=selector))
    patch = {"spec": {"active": value}}
    for name in [workload["metadata"]["name"] for workload in found["items"]]:
        patiently(partial(custom.patch_namespaced_custom_object, *which, name, patch))
