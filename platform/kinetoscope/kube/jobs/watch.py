"""Looking at a training job, once or until it ends.

An API that does not answer says nothing about the job: its pods run on, so the state is
``unknown`` and we look again (a platform that took such silence for failure restarted a healthy
19 h job 24 times: https://github.com/skypilot-org/skypilot/issues/10155).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.connection import CONNECT_SECONDS, Cluster
from kinetoscope.kube.jobs.objects import find_jobset, find_train_job, job_pods
from kinetoscope.kube.jobs.reasons import find_reasons
from kinetoscope.kube.jobs.render import LAUNCH_ANNOTATION
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation, PodState, Reason, job_state, pod_state
from kinetoscope.kube.jobs.suspension import is_queued, read_suspension
from kinetoscope.kube.jobs.template import JOBSET_LABEL

_SHORTEST_SECONDS = 1.0
_LONGEST_SECONDS = 15.0
_BACK_OFF = 1.5
_SLACK_SECONDS = 10.0


def observe(cluster: Cluster, job: TrainingJob) -> Observation:
    """Look once; an API error gives the state ``unknown``."""
    return _look(cluster, job)[0]


class Looks:
    """Looks at a job again and again, and keeps what only one of them saw.

    Pods are watched between two looks, so that a failure is seen before a restart deletes the pod
    that had it.

    Args:
        cluster: where it runs.
        job: as submitted.
        longest_seconds: between two looks at a job of which nothing changes.
    """

    def __init__(
        self, cluster: Cluster, job: TrainingJob, *, longest_seconds: float = _LONGEST_SECONDS
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._longest = longest_seconds
        self._uid = ""
        self._failures: dict[str, PodState] = {}
        self._earlier: frozenset[str] = frozenset()
        self._last: Observation | None = None
        self._version: str | None = None
        self._pause = _SHORTEST_SECONDS

    def look(self) -> Observation:
        """Return what is seen now, with the failures of all the job's restarts that were seen."""
        seen, self._version = _look(self._cluster, self._job)
        if seen.uid and seen.uid != self._uid:  # how pods of another job ended is not its own
            self._uid = seen.uid
            self._failures = {u: p for u, p in self._failures.items() if u not in self._earlier}
        self._failures.update({pod.uid: pod for pod in seen.failures})
        self._earlier = frozenset(self._failures)
        seen = replace(seen, failures=tuple(self._failures.values()))
        changed = seen != self._last
        self._pause = _SHORTEST_SECONDS if changed else min(self._pause * _BACK_OFF, self._longest)
        self._last = seen
        return seen

    @property
    def latest(self) -> Observation | None:
        """What the latest look saw."""
        return self._last

    def wait_for_change(self, most_seconds: float = float("inf")) -> None:
        """Wait until a pod changes, or for a while that grows as long as nothing does."""
        seconds = min(self._pause, most_seconds)
        pod = _next_pod(self._cluster, self._job, self._version, seconds)
        if pod is not None and pod.failed:
            self._failures[pod.uid] = pod


def wait(
    cluster: Cluster,
    job: TrainingJob,
    *,
    on_change: Callable[[Observation], None] | None = None,
    timeout_seconds: float | None = None,
) -> Observation:
    """Wait until the job has succeeded, failed, or is suspended or deleted with all pods gone.

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
    looks = Looks(cluster, job)
    last: Observation | None = None
    while True:
        seen = looks.look()
        if seen != last and on_change is not None:
            on_change(seen)
        last = seen
        left = end - time.monotonic()
        if seen.finished or left <= 0:
            return seen
        looks.wait_for_change(left)


def _look(cluster: Cluster, job: TrainingJob) -> tuple[Observation, str | None]:
    """Return what is seen, and from where to watch the pods."""
    try:
        train_job = find_train_job(cluster, job.namespace, job.name)
        pods, version = job_pods(cluster, job.namespace, job.name)
        if train_job is None:
            return _absent(job, pods), version
        state = job_state(train_job, pods, job.num_nodes)
        jobset = find_jobset(cluster, job.namespace, job.name) or {}
        reasons = tuple(find_reasons(cluster, job, train_job, pods, state))
    except ClusterError as error:
        return Observation("unknown", reasons=(Reason("api", "Kubernetes", error.message),)), None
    metadata: dict[str, Any] = train_job["metadata"]
    counted = int((jobset.get("status") or {}).get("restartsCountTowardsMax") or 0)
    observation = Observation(
        state,
        tuple(pods),
        reasons,
        failures=tuple(pod for pod in pods if pod.failed),
        counted_restarts=counted,
        launched_for=(metadata.get("annotations") or {}).get(LAUNCH_ANNOTATION, ""),
        suspension=read_suspension(train_job),
        leaving="deletionTimestamp" in metadata,
        uid=metadata["uid"],
        version=metadata.get("resourceVersion", ""),
        queued=is_queued(train_job),
    )
    return observation, version


def _absent(job: TrainingJob, pods: list[PodState]) -> Observation:
    subject = f"trainjob {job.name}"
    if not pods:
        reason = Reason("deleted", subject, "it does not exist (any more)")
        return Observation("absent", reasons=(reason,))
    names = ", ".join(pod.name for pod in pods)
    reason = Reason("leaving", subject, f"it was deleted; still there: {names}")
    failures = tuple(pod for pod in pods if pod.failed)
    return Observation("absent", tuple(pods), (reason,), failures)


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
        pass  # the next look tells what is the matter
    finally:
        watch.stop()
    # A stream that fails or ends early must not have the next look come at once and for ever.
    time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    return None
