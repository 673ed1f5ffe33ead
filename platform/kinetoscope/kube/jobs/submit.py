"""Training jobs on the cluster: submit, suspend, resume, delete; observe, wait, logs.

A job is two objects of the same name: a TrainingRuntime rendered from the chart's template, and
the TrainJob that runs it. The name is a function of run and stage (`job_name`): whoever submits
the same job again, after an eviction say, adopts what runs.

The TrainJob does not own its runtime: a foreground deletion would collect the runtime first,
without which Trainer's webhook refuses every patch of the TrainJob, also the one that lets it go
(seen on 2.3.0: it hung for ever). `delete` removes both in the right order; runtimes of jobs that
somebody else has deleted are inert, and swept by a later `submit`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kinetoscope.core.errors import ClusterError, ConfigError
from kinetoscope.kube.api_errors import AbsentError, ConflictError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.logs import follow, logs
from kinetoscope.kube.jobs.request import TrainingJob, job_name
from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.jobs.template import (
    DIGEST_ANNOTATION,
    GROUP,
    RUN_LABEL,
    VERSION,
    Manifest,
    read_template,
    render_runtime,
    render_train_job,
)
from kinetoscope.kube.jobs.watch import find_train_job, left_after, observe, wait
from kinetoscope.kube.patience import PATIENCE_SECONDS, patiently

__all__ = [
    "Observation",
    "PodState",
    "Reason",
    "Submission",
    "TrainingJob",
    "delete",
    "follow",
    "job_name",
    "logs",
    "observe",
    "resume",
    "submit",
    "suspend",
    "wait",
]

_JOBS = "trainjobs"
_RUNTIMES = "trainingruntimes"
_PAUSE_SECONDS = 1.0
_SWEEP_AGE = timedelta(minutes=10)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is on the cluster now.

    Args:
        name: of the TrainJob.
        namespace: of the TrainJob.
        uid: of the TrainJob.
        adopted: it was there already.
        suspended: it was there already and is suspended: `resume` continues it.
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
    existing = patiently(lambda: find_train_job(cluster, job.namespace, job.name))
    if existing is None or "deletionTimestamp" in existing["metadata"]:
        _await_predecessor(cluster, job, wait_seconds)
        existing = None
    adopted = existing is not None
    if existing is None:
        _sweep(cluster, job)
        template = read_template(cluster, job.namespace, job.engine)
        _provide_runtime(cluster, job, render_runtime(template, job))
        existing, adopted = _create(cluster, job, render_train_job(template, job))
    _check_same(existing, job)
    suspended = bool(existing["spec"].get("suspend"))
    return Submission(job.name, job.namespace, existing["metadata"]["uid"], adopted, suspended)


def suspend(cluster: Cluster, job: TrainingJob) -> None:
    """Tell all pods to save and leave; they get their whole grace, and `resume` brings them back.

    Raises:
        ApiError: `AbsentError` when there is no such job.
    """
    _set_suspend(cluster, job, True)


def resume(cluster: Cluster, job: TrainingJob) -> None:
    """Continue a suspended job; new pods start when the old ones are gone.

    Raises:
        ApiError: `AbsentError` when there is no such job.
    """
    _set_suspend(cluster, job, False)


def delete(cluster: Cluster, job: TrainingJob, *, wait_seconds: float = 0.0) -> None:
    """Delete a job and its runtime; its pods get their grace. What is gone already is no error.

    Args:
        cluster: where.
        job: which.
        wait_seconds: how long to wait until all pods are gone; 0 does not wait.

    Raises:
        ClusterError: when pods are left after that time.
        ApiError: when the API does not answer or refuses.
    """
    _delete(cluster, _JOBS, job.namespace, job.name)
    left = left_after(cluster, job, wait_seconds)
    if find_train_job(cluster, job.namespace, job.name) is None:
        _delete(cluster, _RUNTIMES, job.namespace, job.name)
    if left and wait_seconds > 0:
        raise ClusterError(
            f"{wait_seconds:.0f} s after the deletion of {job.name} are left: {', '.join(left)}",
            hint="pods may be within their grace, or their node is lost (kubectl get nodes)",
        )


def _await_predecessor(cluster: Cluster, job: TrainingJob, seconds: float) -> None:
    left = left_after(cluster, job, seconds)
    if left:
        raise ClusterError(
            f"of a deleted training job {job.name} are still there: {', '.join(left)}",
            hint="wait until its pods have saved and left, then submit again",
        )


def _provide_runtime(cluster: Cluster, job: TrainingJob, runtime: Manifest) -> None:
    """Create the runtime; one that an interrupted `submit` has left is kept if it is the same."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            patiently(
                lambda: cluster.custom.create_namespaced_custom_object(
                    GROUP, VERSION, job.namespace, _RUNTIMES, runtime
                )
            )
        except ConflictError:
            if _runtime_fits(cluster, job):
                return
            if time.monotonic() >= end:
                raise
            _delete(cluster, _RUNTIMES, job.namespace, job.name)
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _runtime_fits(cluster: Cluster, job: TrainingJob) -> bool:
    try:
        metadata = cluster.custom.get_namespaced_custom_object(
            GROUP, VERSION, job.namespace, _RUNTIMES, job.name
        )["metadata"]
    except AbsentError:
        return False
    same = (metadata.get("annotations") or {}).get(DIGEST_ANNOTATION) == job.digest()
    return same and "deletionTimestamp" not in metadata


def _create(cluster: Cluster, job: TrainingJob, train_job: Manifest) -> tuple[Manifest, bool]:
    """Create the TrainJob, or return the one that another launcher has just created."""
    try:
        created: Manifest = patiently(
            lambda: cluster.custom.create_namespaced_custom_object(
                GROUP, VERSION, job.namespace, _JOBS, train_job
            )
        )
    except ConflictError:
        existing = find_train_job(cluster, job.namespace, job.name)
        if existing is None:
            raise
        return existing, True
    return created, False


def _check_same(existing: Manifest, job: TrainingJob) -> None:
    annotations = existing["metadata"].get("annotations") or {}
    if annotations.get(DIGEST_ANNOTATION) != job.digest():
        raise ConfigError(
            f"namespace {job.namespace} has a training job {job.name} that asks for something else",
            hint="delete it, or submit this one under another name",
        )


def _sweep(cluster: Cluster, job: TrainingJob) -> None:
    """Delete the runtimes of jobs that are gone; a young one may be about to get its job."""
    listed = cluster.custom.list_namespaced_custom_object
    try:
        runtimes = listed(GROUP, VERSION, job.namespace, _RUNTIMES, label_selector=RUN_LABEL)
        jobs = listed(GROUP, VERSION, job.namespace, _JOBS)["items"]
        used = {item["spec"]["runtimeRef"]["name"] for item in jobs} | {job.name}
        limit = datetime.now(tz=UTC) - _SWEEP_AGE
        for metadata in (item["metadata"] for item in runtimes["items"]):
            made = datetime.fromisoformat(metadata["creationTimestamp"])
            if metadata["name"] not in used and made < limit:
                _delete(cluster, _RUNTIMES, job.namespace, metadata["name"])
    except ClusterError as error:
        _log.warning("could not sweep old training runtimes: %s", error)


def _set_suspend(cluster: Cluster, job: TrainingJob, value: bool) -> None:
    patch = {"spec": {"suspend": value}}
    patiently(
        lambda: cluster.custom.patch_namespaced_custom_object(
            GROUP, VERSION, job.namespace, _JOBS, job.name, patch
        )
    )


def _delete(cluster: Cluster, plural: str, namespace: str, name: str) -> None:
    """Delete an object if it is there; a foreground deletion that hangs is set free by this."""
    try:
        patiently(
            lambda: cluster.custom.delete_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, propagation_policy="Background"
            )
        )
    except AbsentError:
        return
