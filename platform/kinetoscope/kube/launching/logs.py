"""The first node's lines in the launcher's own output, where people look first."""

from __future__ import annotations

import sys
import threading

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.logs import Following
from kinetoscope.kube.jobs.objects import job_pods
from kinetoscope.kube.jobs.request import TrainingJob

_PAUSE_SECONDS = 1.0
_LAST_SECONDS = 15.0


class LogPrinter:
    """Prints what the first node of a job writes, from pod to pod, in a thread of its own."""

    def __init__(self, cluster: Cluster, job: TrainingJob) -> None:
        self._cluster = cluster
        self._job = job
        self._following = Following(cluster, job)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following logs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Print what is left, if the API answers, and no more."""
        self._stop.set()
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            try:
                pods, _ = job_pods(self._cluster, self._job.namespace, self._job.name)
            except ClusterError:
                pods = []
            try:
                for line in self._following.lines(pods):
                    sys.stdout.write(f"{line}\n")
                    sys.stdout.flush()
            except (OSError, ValueError):  # it is closed, or its reader has gone
                return
            if is_last:
                return
            self._stop.wait(_PAUSE_SECONDS)
