"""Why a training job does not run, or what went wrong: its pods, its conditions, its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetoscope.core.units import format_utc
from kinetoscope.kube.config import QUEUE_LABEL
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import PodState, Reason, condition, event_reason
from kinetoscope.kube.jobs.suspension import is_queued, read_suspension

# Whoever makes pods tries again within 17 minutes at most, and says so again.
_EVENT_AGE = timedelta(minutes=20)
# What Cluster Autoscaler and Karpenter say of a pod for which they start a node, and how long that
# may take.
_SCALING = ("TriggeredScaleUp", "Nominated")
_START_OF_A_NODE = timedelta(minutes=15)
_SECONDS = len("2026-11-23T18:05:00")


def find_reasons(
    cluster: Cluster,
    job: TrainingJob,
    train_job: Mapping[str, Any],
    pods: list[PodState],
    state: str,
) -> Iterator[Reason]:
    """Yield why a job is not running, or what went wrong."""
    if state == "succeeded":
        return
    yield from dict.fromkeys(filter(None, (pod.why() for pod in pods)))
    if failed := condition(train_job, "Failed"):
        text = f"{failed.get('reason')}: {failed.get('message')}"
        yield Reason("failed", f"trainjob {job.name}", text)
    if state == "suspended":
        yield _suspended(train_job)
    if state == "pending":
        yield from _event_reasons(cluster, job, train_job, pods)
        yield from _scaling(cluster, job, pods)


def _suspended(train_job: Mapping[str, Any]) -> Reason:
    metadata = train_job["metadata"]
    subject = f"trainjob {metadata['name']}"
    note = read_suspension(train_job)
    if note is not None:
        until = f", until {format_utc(note.until)}" if note.until else ""
        return Reason("suspended", subject, f"{note.why} (by {note.by}{until})")
    if is_queued(train_job):
        queue = metadata["labels"][QUEUE_LABEL]
        return Reason("queued", subject, f"queue {queue} has not started it")
    return Reason("suspended", subject, "somebody suspended it; who does so lifts it, too")


def _event_reasons(
    cluster: Cluster, job: TrainingJob, train_job: Mapping[str, Any], pods: list[PodState]
) -> Iterator[Reason]:
    """Yield what the events say; denials by quota or PodSecurity are told nowhere else.

    Events stay for an hour: what they say counts as long as it is why something is missing.
    """
    found = cluster.core.list_namespaced_event(job.namespace, field_selector="type=Warning")
    events = cluster.api.sanitize_for_serialization(found.items)
    since = _since(train_job)
    waiting = {pod.name for pod in pods if not pod.started}
    some_are_missing = len(pods) < job.num_nodes
    seen = set()
    for event in events:
        about = event["involvedObject"]
        name, is_pod = str(about.get("name")), about.get("kind") == "Pod"
        ours = name == job.name or name.startswith(f"{job.name}-node-")
        matters = name in waiting if is_pod else some_are_missing
        if not (ours and matters) or _last_seen(event) < since:
            continue
        reason = event_reason(event)
        if reason is not None and reason not in seen:
            seen.add(reason)
            yield reason


def _last_seen(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    told = event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime")
    return str(told or "")[:_SECONDS]


def _scaling(cluster: Cluster, job: TrainingJob, pods: list[PodState]) -> Iterator[Reason]:
    """Yield the nodes that an autoscaler is starting for pods that have no place yet."""
    for pod in pods:
        if pod.reason != "Unschedulable":
            continue
        of_pod = f"involvedObject.name={pod.name}"
        found = cluster.core.list_namespaced_event(job.namespace, field_selector=of_pod)
        for event in cluster.api.sanitize_for_serialization(found.items):
            if event.get("reason") in _SCALING and _last_seen(event) >= _ago(_START_OF_A_NODE):
                text = f"{event['reason']}: {event.get('message') or ''}"
                yield Reason("scaling", f"pod {pod.name}", text)
                return


def _ago(age: timedelta) -> str:
    return (datetime.now(tz=UTC) - age).strftime("%Y-%m-%dT%H:%M:%S")


def _since(train_job: Mapping[str, Any]) -> str:
    """Return from when on events count: an earlier job of this name has left its own."""
    moments: list[str] = [train_job["metadata"]["creationTimestamp"]]
    conditions = (train_job.get("status") or {}).get("conditions") or ()
    moments += [one.get("lastTransitionTime") or "" for one in conditions]  # e.g. it was resumed
    return max(*(moment[:_SECONDS] for moment in moments), _ago(_EVENT_AGE))
