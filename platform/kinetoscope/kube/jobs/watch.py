"""Looking at a training job, once or until it ends.

An API that does not answer says nothing about the job: its pods run on, so the state is
``unknown`` and we look again (a platform that took such silence for failure restarted a healthy
19 h job 24 times: https://github.com/skypilot-org/skypilot/issues/10155).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.api_errors import AbsentError
from kinetoscope.kube.connection import CONNECT_SECONDS, Cluster
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import (
    Observation,
    PodState,
    Reason,
    condition,
    event_reason,
    job_state,
    pod_state,
)
from kinetoscope.kube.jobs.template import GROUP, VERSION
from kinetoscope.kube.patience import patiently

JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 15.0
_BACK_OFF = 1.5
_SLACK_SECONDS = 10.0


def observe(cluster: Cluster, job: TrainingJob) -> Observation:
    """Look once; an API error gives the state ``unknown``."""
    return _look(cluster, job)[0]


def wait(
    cluster: Cluster,
    job: TrainingJob,
    *,
    on_change: Callable[[Observation], None] | None = None,
    timeout_seconds: float | None = None,
) -> Observation:
    """Wait until the job has succeeded, failed, or is suspended with all pods gone.

    Pods are watched, so that a failure is seen before a restart deletes the pod that had it.

    Args:
        cluster: where it runs.
        job: as submitted.
        on_change: called with every observation that differs from the one before.
        timeout_seconds: give up waiting (the job runs on); by default never.

    Returns:
        The last observation, with the failures of all restarts that were seen; its state is
        ``pending``, ``running`` or ``unknown`` when the time is up.
    """
    end = time.monotonic() + timeout_seconds if timeout_seconds is not None else float("inf")
    failures: dict[str, PodState] = {}
    last: Observation | None = None
    pause = _SHORTEST_SECONDS
    while True:
        seen, version = _look(cluster, job)
        failures.update({pod.uid: pod for pod in seen.failures})
        seen = replace(seen, failures=tuple(failures.values()))
        if seen != last:
            last, pause = seen, _SHORTEST_SECONDS
            if on_change is not None:
                on_change(seen)
        left = end - time.monotonic()
        if seen.finished or left <= 0:
            return seen
        pod = _next_pod(cluster, job, version, min(pause, left))
        if pod is not None and pod.failed:
            failures[pod.uid] = pod
        pause = min(pause * _BACK_OFF, _LONGEST_SECONDS)


def job_pods(cluster: Cluster, namespace: str, name: str) -> tuple[list[PodState], str]:
    """Return a job's pods by rank, and the resource version from which to watch them."""
    found = cluster.core.list_namespaced_pod(namespace, label_selector=f"{JOBSET_LABEL}={name}")
    pods = [pod_state(cluster.api.sanitize_for_serialization(item)) for item in found.items]
    return sorted(pods, key=lambda pod: (pod.rank, pod.attempt)), found.metadata.resource_version


def left_after(cluster: Cluster, job: TrainingJob, seconds: float) -> list[str]:
    """Wait until nothing is left of a job that has pods or may still make some.

    Returns:
        What is left after that time, in words; empty when all is gone.
    """
    end = time.monotonic() + seconds
    while True:
        left = patiently(lambda: _left(cluster, job))
        if not left or time.monotonic() >= end:
            return left
        time.sleep(_SHORTEST_SECONDS)


def find_train_job(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """Return the TrainJob; None when there is none."""
    return _find(cluster, GROUP, VERSION, namespace, "trainjobs", name)


def find_jobset(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """Return the JobSet that Trainer has made; None when there is none."""
    return _find(cluster, "jobset.x-k8s.io", "v1alpha2", namespace, "jobsets", name)


def _find(cluster: Cluster, *which: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = cluster.custom.get_namespaced_custom_object(*which)
    except AbsentError:
        return None
    return found


def _left(cluster: Cluster, job: TrainingJob) -> list[str]:
    # From maker to made: what one has made before it went is found among the next.
    left = []
    if find_train_job(cluster, job.namespace, job.name) is not None:
        left.append(f"trainjob {job.name}")
    if find_jobset(cluster, job.namespace, job.name) is not None:
        left.append(f"jobset {job.name}")
    listed = cluster.custom.list_namespaced_custom_object
    selector = f"{JOBSET_LABEL}={job.name}"
    jobs = listed("batch", "v1", job.namespace, "jobs", label_selector=selector)["items"]
    left += [f"job {item['metadata']['name']}" for item in jobs]
    return left + [f"pod {pod.name}" for pod in job_pods(cluster, job.namespace, job.name)[0]]


def _look(cluster: Cluster, job: TrainingJob) -> tuple[Observation, str | None]:
    """Return what is seen, and from where to watch the pods."""
    try:
        train_job = find_train_job(cluster, job.namespace, job.name)
        if train_job is None:
            reason = Reason("deleted", f"trainjob {job.name}", "it does not exist (any more)")
            return Observation("failed", reasons=(reason,)), None
        pods, version = job_pods(cluster, job.namespace, job.name)
        state = job_state(train_job, pods, job.num_nodes)
        restarts = _restarts(find_jobset(cluster, job.namespace, job.name))
        reasons = tuple(_reasons(cluster, job, train_job, pods, state))
    except ClusterError as error:
        return Observation("unknown", reasons=(Reason("api", "Kubernetes", error.message),)), None
    failures = tuple(pod for pod in pods if pod.failed)
    return Observation(state, tuple(pods), reasons, failures, *restarts), version


def _restarts(jobset: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return (all restarts, those that count towards the limit)."""
    status = (jobset or {}).get("status") or {}
    return int(status.get("restarts") or 0), int(status.get("restartsCountTowardsMax") or 0)


def _reasons(
    cluster: Cluster,
    job: TrainingJob,
    train_job: Mapping[str, Any],
    pods: list[PodState],
    state: str,
) -> Iterator[Reason]:
    if state == "succeeded":
        return
    yield from filter(None, (pod.why() for pod in pods))
    if failed := condition(train_job, "Failed"):
        text = f"{failed.get('reason')}: {failed.get('message')}"
        yield Reason("failed", f"trainjob {job.name}", text)
    if state == "pending":
        yield from _event_reasons(cluster, job, train_job, pods)


def _event_reasons(
    cluster: Cluster, job: TrainingJob, train_job: Mapping[str, Any], pods: list[PodState]
) -> Iterator[Reason]:
    """Yield what the events say; denials by quota or PodSecurity are told nowhere else."""
    found = cluster.core.list_namespaced_event(job.namespace, field_selector="type=Warning")
    events = cluster.api.sanitize_for_serialization(found.items)
    # An earlier job of this name has left its events.
    since = str(train_job["metadata"]["creationTimestamp"])[: len("2026-11-23T18:05:00")]
    alive = {pod.name for pod in pods}
    seen = set()
    for event in events:
        about = event["involvedObject"]
        name, is_pod = str(about.get("name")), about.get("kind") == "Pod"
        ours = name == job.name or name.startswith(f"{job.name}-node-")
        when = event.get("lastTimestamp") or event.get("eventTime") or ""
        if not ours or (is_pod and name not in alive) or str(when)[: len(since)] < since:
            continue
        reason = event_reason(event)
        if reason is not None and reason not in seen:
            seen.add(reason)
            yield reason


def _next_pod(
    cluster: Cluster, job: TrainingJob, version: str | None, seconds: float
) -> PodState | None:
    """Return the next pod of the job that changes within the time; None when none does."""
    if version is None:
        time.sleep(seconds)
        return None
    started = time.monotonic()
    watch = Watch()
    try:
        for event in watch.stream(
            cluster.core.list_namespaced_pod,
            job.namespace,
            label_selector=f"{JOBSET_LABEL}={job.name}",
            resource_version=version,
            timeout_seconds=max(1, round(seconds)),
            _request_timeout=(CONNECT_SECONDS, seconds + _SLACK_SECONDS),
        ):
            return pod_state(event["raw_object"])
    except (ClusterError, ApiException, urllib3.exceptions.HTTPError):
        # The next look tells what is the matter; it must not come at once and for ever.
        time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    finally:
        watch.stop()
    return None
