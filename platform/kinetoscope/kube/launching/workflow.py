"""The Workflow of a Kubeflow pipeline whose pod this launcher runs in, and whether it is ended.

Whoever terminates a run sets the Workflow's deadline to 0 first; a moment later this pod gets a
SIGTERM, as it does when it is evicted, which is no reason to stop training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.kube.connection import CONNECT_SECONDS, Cluster

_WORKFLOWS = ("argoproj.io", "v1alpha1")
_PLURAL = "workflows"
_LABEL = "workflows.argoproj.io/workflow"
_WATCH_SECONDS = 300
_PAUSE_SECONDS = 1.0
_SLACK_SECONDS = 10.0
# The last one is what a stream that is cut in the middle of an object ends with.
_PASSING = (KinetoscopeError, ApiException, urllib3.exceptions.HTTPError, ValueError)

_log = logging.getLogger(__name__)


def is_being_ended(workflow: Mapping[str, Any]) -> bool:
    """Tell whether somebody has asked for the end of a Workflow that is still at work."""
    spec = workflow.get("spec") or {}
    return spec.get("activeDeadlineSeconds") == 0 or spec.get("shutdown") in ("Terminate", "Stop")


def is_pod_of_ending(cluster: Cluster, pod: str) -> bool:
    """Tell whether a pod is of a Workflow whose end somebody has asked for.

    Raises:
        ApiError: that can't be told.
    """
    name = workflow_of(cluster, pod)
    if name is None:
        return False
    which = (*_WORKFLOWS, cluster.namespace, _PLURAL)
    return is_being_ended(cluster.custom.get_namespaced_custom_object(*which, name))


def workflow_of(cluster: Cluster, pod: str) -> str | None:
    """Return the name of the Workflow that a pod belongs to; None where it is of none."""
    found = cluster.core.read_namespaced_pod(pod, cluster.namespace)
    name: str | None = (found.metadata.labels or {}).get(_LABEL)
    return name


class WorkflowWatch:
    """Watches the Workflow of a pod, if it is of one, in a thread of its own.

    Args:
        cluster: where it runs.
        pod: name of the launcher's pod.
        on_end: called once, in that thread, when the Workflow is being ended: there is a second or
            two.
    """

    def __init__(self, cluster: Cluster, pod: str, on_end: Callable[[], None]) -> None:
        self.name = "the workflow"
        self._cluster = cluster
        self._pod = pod
        self._on_end = on_end
        self._ended = threading.Event()
        self._told = ""
        threading.Thread(target=self._run, name="watching the workflow", daemon=True).start()

    @property
    def is_ending(self) -> bool:
        """Whether it is being ended."""
        return self._ended.is_set()

    def _run(self) -> None:
        while True:
            try:
                workflow = workflow_of(self._cluster, self._pod)
                if workflow is None:
                    return
                self.name = f"workflow {workflow}"
                if any(map(is_being_ended, self._changes(workflow))):
                    self._ended.set()
                    self._on_end()
                    return
                self._told = ""
            except _PASSING as error:
                self._tell(error)
            time.sleep(_PAUSE_SECONDS)

    def _tell(self, error: Exception) -> None:
        """Say once why nothing is seen: it may be so for as long as the training takes."""
        if str(error) != self._told:
            _log.warning("%s can't be watched: %s; trying again", self.name, error)
        self._told = str(error)

    def _changes(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the Workflow as it is, then whenever it changes."""
        which = (*_WORKFLOWS, self._cluster.namespace, _PLURAL)
        found = self._cluster.custom.get_namespaced_custom_object(*which, name)
        yield found
        for event in Watch().stream(
            self._cluster.custom.list_namespaced_custom_object,
            *which,
            field_selector=f"metadata.name={name}",
            resource_version=found["metadata"]["resourceVersion"],
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=(CONNECT_SECONDS, _WATCH_SECONDS + _SLACK_SECONDS),
        ):
            yield event["object"]
