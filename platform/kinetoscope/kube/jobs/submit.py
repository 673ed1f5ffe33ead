"""Training jobs on the cluster: submit, suspend, resume, delete; observe, wait, logs.

A job is two objects: a TrainingRuntime rendered from the chart's template, and the TrainJob that
runs it. The TrainJob's name is a function of what the job is of (`job_name`): whoever submits the
same job again, after an eviction say, adopts what runs. Every try to make it has a runtime of its
own: no TrainJob runs what another one's maker has rendered, or loses its runtime to whoever deletes
its predecessor.

The TrainJob does not own its runtime: a foreground deletion would collect the runtime first,
without which Trainer's webhook refuses every patch of the TrainJob, also the one that lets it go
(seen on 2.3.0: it hung for ever). `delete` removes both in the right order; what nobody deletes is
swept by a later `submit` (`sweep`).
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from kinetoscope.core.errors import ClusterError, ConfigError
from kinetoscope.kube.api_errors import ApiError, ConflictError, UnreachableError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.logs import follow, logs
from kinetoscope.kube.jobs.objects import delete_object, find_train_job, left_after
from kinetoscope.kube.jobs.render import (
    DIGEST_ANNOTATION,
    GROUP,
    RUNTIMES,
    TRAIN_JOBS,
    VERSION,
    render_runtime,
    render_train_job,
    runtime_of,
)
from kinetoscope.kube.jobs.request import DIGEST_VERSION, TrainingJob, job_name
from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.jobs.suspension import Suspension, resume, suspend
from kinetoscope.kube.jobs.sweep import sweep
from kinetoscope.kube.jobs.template import Manifest, read_template
from kinetoscope.kube.jobs.watch import observe, wait
from kinetoscope.kube.jobs.which import ANY, Which
from kinetoscope.kube.patience import PATIENCE_SECONDS, patiently

__all__ = [
    "Observation",
    "PodState",
    "Reason",
    "Submission",
    "Suspension",
    "TrainingJob",
    "delete",
    "find_or_create",
    "follow",
    "job_name",
    "logs",
    "observe",
    "resume",
    "submit",
    "suspend",
    "wait",
]

_PAUSE_SECONDS = 1.0
_TOKEN_BYTES = 3
_RUNTIME_UNSEEN = "must be created before the TrainJob"


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is on the cluster now.

    Args:
        name: of the TrainJob.
        namespace: of the TrainJob.
        uid: of the TrainJob.
        adopted: it was there already.
        suspended: it is suspended: `resume` continues it, or the queue that it waits in starts it.
    """

    name: str
    namespace: str
    uid: str
    adopted: bool
    suspended: bool


def submit(cluster: Cluster, job: TrainingJob, *, wait_seconds: float = 0.0) -> Submission:
    """Bring a job onto the cluster, or adopt it when it is there already.

    Webhooks and an API that do not answer are asked again for a minute.

    Args:
        cluster: where.
        job: what.
        wait_seconds: how long to wait for the pods of a deleted job of this name, which still
            save: a second set of pods beside them would write the same checkpoints.

    Raises:
        NotFoundError: when the chart's template is not in that namespace.
        ConfigError: when a job of this name asks for something else, or another one is leaving.
        ApiError: when the API refuses, or does not answer for a minute.
    """
    existing, adopted = find_or_create(cluster, job, wait_seconds=wait_seconds)
    _check_same(existing, job)
    suspended = bool(existing["spec"].get("suspend"))
    return Submission(job.name, job.namespace, existing["metadata"]["uid"], adopted, suspended)


def find_or_create(
    cluster: Cluster, job: TrainingJob, *, wait_seconds: float = 0.0
) -> tuple[Manifest, bool]:
    """Return the TrainJob of a job's name, whoever asked for it, and whether it was there already.

    Arguments and errors are those of `submit`.
    """
    existing = patiently(lambda: find_train_job(cluster, job.namespace, job.name))
    if existing is not None and "deletionTimestamp" not in existing["metadata"]:
        return existing, True
    _await_predecessor(cluster, job, wait_seconds)
    template = read_template(cluster, job.namespace, job.engine)
    name = f"{job.name}-{secrets.token_hex(_TOKEN_BYTES)}"
    _create_runtime(cluster, job, render_runtime(template, job, name))
    try:
        found, adopted = _create(cluster, job, render_train_job(template, job, name))
    except ApiError as error:
        if not isinstance(error, UnreachableError):  # else nobody knows whether it was made
            _drop_runtime(cluster, job, name)
        raise
    if adopted and runtime_of(found) != name:
        _drop_runtime(cluster, job, name)
    return found, adopted


def delete(
    cluster: Cluster, job: TrainingJob, *, wait_seconds: float = 0.0, which: Which = ANY
) -> None:
    """Delete a job and its runtime; its pods get their grace. What is gone already is no error.

    Args:
        cluster: where.
        job: the job.
        wait_seconds: how long to wait until all pods are gone; 0 does not wait.
        which: TrainJob of that name is meant; another one stays.

    Raises:
        ClusterError: when pods are left after that time.
        ApiError: when the API does not answer or refuses.
    """
    before = patiently(lambda: find_train_job(cluster, job.namespace, job.name))
    delete_object(cluster, TRAIN_JOBS, job.namespace, job.name, which=which)
    left = left_after(cluster, job.namespace, job.name, wait_seconds)
    after = patiently(lambda: find_train_job(cluster, job.namespace, job.name))
    # Where another TrainJob came in between, what it runs is seen now.
    if before is not None and (after is None or runtime_of(after) != runtime_of(before)):
        delete_object(cluster, RUNTIMES, job.namespace, runtime_of(before))
    if left and wait_seconds > 0:
        raise ClusterError(
            f"{wait_seconds:.0f} s after the deletion of {job.name} are left: {', '.join(left)}",
            hint="pods may be within their grace, or their node is lost (kubectl get nodes)",
        )


def _await_predecessor(cluster: Cluster, job: TrainingJob, seconds: float) -> None:
    left = left_after(cluster, job.namespace, job.name, seconds)
    if left:
        raise ClusterError(
            f"of a deleted training job {job.name} are still there: {', '.join(left)}",
            hint="wait until its pods have saved and left, then submit again",
        )


def _create_runtime(cluster: Cluster, job: TrainingJob, runtime: Manifest) -> None:
    """Create the runtime, and sweep what others have left, by the API server's clock."""
    with suppress(ConflictError):  # an answer was lost: nobody else gives it that name
        made = patiently(
            # Strict: a word that Kubernetes does not know is refused, never dropped in silence.
            lambda: cluster.custom.create_namespaced_custom_object(
                GROUP, VERSION, job.namespace, RUNTIMES, runtime, field_validation="Strict"
            )
        )
        now = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
        sweep(cluster, job.namespace, now=now)


def _create(cluster: Cluster, job: TrainingJob, train_job: Manifest) -> tuple[Manifest, bool]:
    """Create the TrainJob, or return the one that another launcher has just created."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _create_once(cluster, job, train_job)
        except ApiError as error:
            # Trainer's webhook sees a new runtime only a moment after it was made.
            if _RUNTIME_UNSEEN not in error.detail or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_SECONDS)


def _create_once(cluster: Cluster, job: TrainingJob, train_job: Manifest) -> tuple[Manifest, bool]:
    try:
        created: Manifest = patiently(
            lambda: cluster.custom.create_namespaced_custom_object(
                GROUP, VERSION, job.namespace, TRAIN_JOBS, train_job, field_validation="Strict"
            )
        )
    except ConflictError:
        existing = patiently(lambda: find_train_job(cluster, job.namespace, job.name))
        if existing is None:
            raise
        return existing, True
    return created, False


def _drop_runtime(cluster: Cluster, job: TrainingJob, name: str) -> None:
    """Delete the runtime of a job that was not made; a later sweep does what can't be done now."""
    with suppress(ApiError):
        delete_object(cluster, RUNTIMES, job.namespace, name)


def _check_same(existing: Manifest, job: TrainingJob) -> None:
    """Refuse a job that does something else; what another version noted can't be compared."""
    told = (existing["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION, "")
    if told.startswith(f"{DIGEST_VERSION}:") and told != job.digest():
        raise ConfigError(
            f"namespace {job.namespace} has a training job {job.name} that asks for something else",
            hint="delete it, or submit this one under another name",
        )
