"""Deleting what launchers have left: they delete their own jobs, unless they are gone by then."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.objects import delete_object
from kinetoscope.kube.jobs.render import (
    GROUP,
    RUN_LABEL,
    RUNTIMES,
    TRAIN_JOBS,
    VERSION,
    runtime_of,
)
from kinetoscope.kube.jobs.state import condition
from kinetoscope.kube.jobs.suspension import Suspension, read_suspension
from kinetoscope.kube.jobs.which import Which

# A young runtime may be about to get its job.
_RUNTIME_AGE = timedelta(minutes=10)
# Whoever waits for a job that has ended sees that long before.
_JOB_AGE = timedelta(hours=1)

_log = logging.getLogger(__name__)


def sweep(cluster: Cluster, namespace: str, *, now: datetime) -> None:
    """Delete our jobs that ended or were suspended an hour ago, and runtimes without a job.

    All that a step needs to go on is in the object store. What can't be deleted now is so by a
    later sweep.

    Args:
        cluster: where.
        namespace: of the runs.
        now: by the clock of the cluster; that of a launcher may be wrong.
    """
    listed = cluster.custom.list_namespaced_custom_object
    try:
        jobs = listed(GROUP, VERSION, namespace, TRAIN_JOBS)["items"]
        for job in jobs:
            metadata = job["metadata"]
            if RUN_LABEL in (metadata.get("labels") or {}) and _is_left(job, now):
                _log.info("deleting training job %s, which is over", metadata["name"])
                # Somebody may go on with it just now.
                which = Which.of(metadata)
                delete_object(cluster, TRAIN_JOBS, namespace, metadata["name"], which=which)
        runtimes = listed(GROUP, VERSION, namespace, RUNTIMES, label_selector=RUN_LABEL)["items"]
        used = {runtime_of(job) for job in jobs}
        for metadata in (item["metadata"] for item in runtimes):
            if metadata["name"] not in used and now - _made(metadata) > _RUNTIME_AGE:
                delete_object(cluster, RUNTIMES, namespace, metadata["name"])
    except ClusterError as error:
        _log.warning("could not sweep old training jobs: %s", error)


def _is_left(job: dict[str, Any], now: datetime) -> bool:
    for kind in ("Complete", "Failed"):
        ended = condition(job, kind)
        if ended and "lastTransitionTime" in ended:
            return now - datetime.fromisoformat(ended["lastTransitionTime"]) > _JOB_AGE
    note = read_suspension(job)
    if note is None or not job["spec"].get("suspend"):
        return False
    since = _suspended_at(job, note)
    # Whoever was to lift it after that pause is gone, too.
    pause = timedelta(seconds=max(0.0, note.until - note.at))
    return since is not None and now - since > _JOB_AGE + pause


def _suspended_at(job: dict[str, Any], note: Suspension) -> datetime | None:
    """Return since when a job is suspended, by the cluster's clock if that is told."""
    seen = condition(job, "Suspended")
    if seen and "lastTransitionTime" in seen:
        return datetime.fromisoformat(seen["lastTransitionTime"])
    return datetime.fromtimestamp(note.at, tz=UTC) if note.at else None


def _made(metadata: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(metadata["creationTimestamp"])
