"""The objects of training jobs on the cluster: find them, delete them, see what is left."""

from __future__ import annotations

import time
from typing import Any

from kinetoscope.kube.api_errors import AbsentError, ConflictError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.render import GROUP, TRAIN_JOBS, VERSION
from kinetoscope.kube.jobs.state import PodState, pod_state
from kinetoscope.kube.jobs.template import JOBSET_LABEL
from kinetoscope.kube.jobs.which import ANY, Which
from kinetoscope.kube.patience import patiently

_PAUSE_SECONDS = 1.0


def find_train_job(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """Return the TrainJob; None when there is none."""
    return _find(cluster, GROUP, VERSION, namespace, TRAIN_JOBS, name)


def find_jobset(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """Return the JobSet that Trainer has made; None when there is none."""
    return _find(cluster, "jobset.x-k8s.io", "v1alpha2", namespace, "jobsets", name)


def job_pods(cluster: Cluster, namespace: str, name: str) -> tuple[list[PodState], str]:
    """Return a job's pods by rank, and the resource version from which to watch them."""
    found = cluster.core.list_namespaced_pod(namespace, label_selector=f"{JOBSET_LABEL}={name}")
    pods = [pod_state(cluster.api.sanitize_for_serialization(item)) for item in found.items]
    return sorted(pods, key=lambda pod: (pod.rank, pod.attempt)), found.metadata.resource_version


def delete_object(
    cluster: Cluster, plural: str, namespace: str, name: str, *, which: Which = ANY
) -> None:
    """Delete an object if it is there; a foreground deletion that hangs is set free by this.

    Args:
        cluster: where.
        plural: kind of the object.
        namespace: of the object.
        name: of the object.
        which: one of this name is meant; another one stays.
    """
    options: dict[str, Any] = {"propagationPolicy": "Background"}
    if which != ANY:
        options["preconditions"] = which.to_json()
    try:
        patiently(
            lambda: cluster.custom.delete_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, body=options
            )
        )
    except AbsentError:
        return
    except ConflictError:
        if which == ANY:
            raise


def left_after(cluster: Cluster, namespace: str, name: str, seconds: float) -> list[str]:
    """Wait until nothing is left of a job that has pods, or may still make some.

    Returns:
        What is left after that time, in words; empty when all is gone.
    """
    end = time.monotonic() + seconds
    while True:
        left = patiently(lambda: what_is_left(cluster, namespace, name))
        if not left or time.monotonic() >= end:
            return left
        time.sleep(_PAUSE_SECONDS)


def what_is_left(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Return what there is of a job, but for its runtime, in words."""
    # From maker to made: what one has made before it went is found among the next.
    left = []
    if find_train_job(cluster, namespace, name) is not None:
        left.append(f"trainjob {name}")
    # Trainer refuses a job of this name while its predecessor owns the copy of the runtime.
    if _has_snapshot(cluster, namespace, name):
        left.append(f"configmap {name}-runtime-snapshot")
    if find_jobset(cluster, namespace, name) is not None:
        left.append(f"jobset {name}")
    listed = cluster.custom.list_namespaced_custom_object
    selector = f"{JOBSET_LABEL}={name}"
    jobs = listed("batch", "v1", namespace, "jobs", label_selector=selector)["items"]
    left += [f"job {item['metadata']['name']}" for item in jobs]
    return left + [f"pod {pod.name}" for pod in job_pods(cluster, namespace, name)[0]]


def _has_snapshot(cluster: Cluster, namespace: str, name: str) -> bool:
    try:
        cluster.core.read_namespaced_config_map(f"{name}-runtime-snapshot", namespace)
    except AbsentError:
        return False
    return True


def _find(cluster: Cluster, *which: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = cluster.custom.get_namespaced_custom_object(*which)
    except AbsentError:
        return None
    return found
