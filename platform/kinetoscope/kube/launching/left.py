"""Training jobs whose launcher is gone, when the pipeline that it was of has ended."""

from __future__ import annotations

import logging
import time

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.render import (
    GROUP,
    LAUNCH_ANNOTATION,
    RUN_LABEL,
    TRAIN_JOBS,
    VERSION,
)
from kinetoscope.kube.jobs.state import condition
from kinetoscope.kube.jobs.suspension import Suspension, suspend_seen
from kinetoscope.kube.jobs.template import Manifest
from kinetoscope.kube.launching.others import Claim
from kinetoscope.kube.patience import patiently

_log = logging.getLogger(__name__)


def suspend_left(cluster: Cluster, claim: Claim, by: str, why: str) -> None:
    """Have the jobs save and leave that a start of a run has launched, and nobody looks after.

    A job that another start or run has gone on with meanwhile is theirs; one that somebody
    suspended stays so. What can't be done now the pods do by themselves, a while after the last
    sign of life of their launcher.

    Args:
        cluster: where, and in which namespace.
        claim: who wanted the jobs.
        by: who suspends them.
        why: in words.
    """
    selector = f"{RUN_LABEL}={claim.run_id}"
    listed = cluster.custom.list_namespaced_custom_object
    which = (GROUP, VERSION, cluster.namespace, TRAIN_JOBS)
    try:
        for job in patiently(lambda: listed(*which, label_selector=selector))["items"]:
            if _is_left(job, claim):
                _log.warning("suspending training job %s: %s", job["metadata"]["name"], why)
                suspend_seen(cluster, job, Suspension(by, why, "stop", time.time()))
    except ClusterError as error:
        _log.warning("training jobs that are left stay as they are: %s", error.message)


def _is_left(job: Manifest, claim: Claim) -> bool:
    metadata = job["metadata"]
    is_over = condition(job, "Complete") or condition(job, "Failed")
    return (
        (metadata.get("annotations") or {}).get(LAUNCH_ANNOTATION) == str(claim)
        and "deletionTimestamp" not in metadata
        and not is_over
        and not job["spec"].get("suspend")
    )
