"""What a launcher asks of a TrainJob that it has seen; what fails, the next look asks for again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from kinetoscope.core.errors import ClusterError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation
from kinetoscope.kube.jobs.submit import delete, resume, suspend
from kinetoscope.kube.jobs.suspension import Suspension
from kinetoscope.kube.jobs.which import Which

_log = logging.getLogger(__name__)


class JobHandle:
    """Changes a job; never another one that has its name by now.

    Args:
        cluster: where it is.
        job: the job.
        me: who notes a suspension.
    """

    def __init__(self, cluster: Cluster, job: TrainingJob, me: str) -> None:
        self._cluster = cluster
        self._job = job
        self._me = me

    def stop(self, seen: Observation, why: str) -> None:
        """Suspend it until a new start of its run, however it has changed since."""
        note = Suspension(self._me, why, "stop", time.time())
        self._try(lambda: suspend(self._cluster, self._job, note, which=Which(seen.uid)))

    def pause(self, seen: Observation, why: str, seconds: float) -> None:
        """Suspend it for a while, unless somebody has changed it since it was seen."""
        now = time.time()
        note = Suspension(self._me, why, "gang", now, now + seconds)
        self._try(lambda: suspend(self._cluster, self._job, note, which=_as_seen(seen)))

    def lift(self, seen: Observation) -> None:
        """Lift the suspension that was seen: another one may be there since."""
        self._try(lambda: resume(self._cluster, self._job, which=_as_seen(seen)))

    def delete(self, seen: Observation) -> None:
        """Delete a job that is over."""
        self._try(lambda: delete(self._cluster, self._job, which=Which(seen.uid)))

    def delete_as_seen(self, seen: Observation) -> None:
        """Delete it, unless somebody has changed it since it was seen, to go on with it perhaps."""
        self._try(lambda: delete(self._cluster, self._job, which=_as_seen(seen)))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ClusterError as error:
            _log.warning("training job %s stays as it is: %s", self._job.name, error.message)


def _as_seen(seen: Observation) -> Which:
    return Which(seen.uid, seen.version)
