"""A launcher telling the store what it sees of its job, whether the store answers or not."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from kinetoscope.core.errors import StorageError
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.launching.record import (
    JobReason,
    JobRecord,
    PodFailure,
    PodPlace,
    read_job_record,
)
from kinetoscope.steps.repeating import Repeating
from kinetoscope.storage.store import ObjectStore

_BEAT_SECONDS = 15.0
_LOOK_SECONDS = 1.0
_MOST_FAILURES = 50
_MOST_CHARACTERS = 4000


class JobTeller:
    """Tells the store of a job in a thread of its own, which an absent store holds up alone.

    Args:
        store: of the run.
        key: of the record.
        job: that it is about.
    """

    def __init__(self, store: ObjectStore, key: str, job: TrainingJob) -> None:
        self._store = store
        self._key = key
        self._lock = threading.Lock()
        own = JobRecord(job=job.name, namespace=job.namespace, launcher=socket.gethostname())
        self._record = own
        self._is_new = True
        self._has_looked_back = False
        self._told_at = -float("inf")
        self._telling = Repeating("telling of the training job", self._tell_on, _LOOK_SECONDS)

    def see(self, state: str, seen: Observation, *more: Reason) -> None:
        """Take note of what was seen; it is told within a second or two."""
        with self._lock:
            record = self._record
            known = {failure.uid for failure in record.failures}
            new = [_failure(pod) for pod in seen.failures if pod.uid not in known]
            changed = record.model_copy(
                update={
                    "state": state,
                    "since": record.since if state == record.state else time.time(),
                    "reasons": tuple(map(_reason, (*more, *seen.reasons))),
                    "pods": tuple(map(_place, seen.pods)),
                    "failures": (*record.failures, *new)[-_MOST_FAILURES:],
                    "counted_restarts": seen.counted_restarts,
                }
            )
            self._is_new = self._is_new or changed != record
            self._record = changed

    def close(self) -> None:
        """Tell what is left to tell, if the store answers, and no more."""
        self._telling.stop()
        with suppress(Exception):
            self._tell()

    def _tell_on(self) -> None:
        try:
            self._tell()
        except OSError as error:
            # A full disk, too, has room again some day: silence would end the training.
            raise StorageError(str(error)) from error

    def _tell(self) -> None:
        if not self._has_looked_back:
            self._look_back()
        with self._lock:
            if not self._is_new and time.monotonic() - self._told_at < _BEAT_SECONDS:
                return
            now = {"count": self._record.count + 1, "at": time.time()}
            self._record = self._record.model_copy(update=now)
            told, self._is_new = self._record, False
        try:
            self._store.put_bytes(self._key, told.to_bytes())
        except BaseException:
            self._is_new = True
            raise
        self._told_at = time.monotonic()

    def _look_back(self) -> None:
        """Take over what a launcher before this one has seen, which was evicted perhaps."""
        before = read_job_record(self._store, self._key)
        with self._lock:
            if before is not None:
                known = {failure.uid for failure in self._record.failures}
                earlier = [one for one in before.failures if one.uid not in known]
                failures = (*earlier, *self._record.failures)[-_MOST_FAILURES:]
                update = {"count": before.count, "failures": failures}
                self._record = self._record.model_copy(update=update)
            self._has_looked_back = True


def _reason(reason: Reason) -> JobReason:
    return JobReason(
        kind=reason.kind,
        subject=reason.subject,
        message=reason.message[:_MOST_CHARACTERS],
        hint=reason.hint or "",
    )


def _place(pod: PodState) -> PodPlace:
    return PodPlace(rank=pod.rank, pod=pod.name, node=pod.node, phase=pod.phase)


def _failure(pod: PodState) -> PodFailure:
    why = pod.why()
    return PodFailure(
        uid=pod.uid,
        pod=pod.name,
        node=pod.node,
        rank=pod.rank,
        restart=pod.attempt,
        exit_code=pod.exit_code,
        kind=why.kind if why else "exit",
        why=why.message if why else "",
        last_lines=pod.message[-_MOST_CHARACTERS:],
        at=time.time(),
    )
