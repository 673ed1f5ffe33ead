"""What a launcher does with the job that it has asked for itself, or that it has adopted."""

from __future__ import annotations

import logging
import time

from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation
from kinetoscope.kube.launching.ending import how_it_ended
from kinetoscope.kube.launching.gang import Gang
from kinetoscope.kube.launching.handle import JobHandle
from kinetoscope.steps.contract import StepSpec

# What a supervisor needs after its ranks were killed, to tell how they ended.
GRACE_MARGIN_SECONDS = 90
_LEAVING_SECONDS = 60.0
# Beyond their grace, pods stay only where their machine is lost.
_LOST_SECONDS = 120.0

_log = logging.getLogger(__name__)


class OwnJob:
    """Sees one's own job on, and to its end.

    Args:
        spec: of the step.
        job: as submitted.
        handle: of the job.
    """

    def __init__(self, spec: StepSpec, job: TrainingJob, handle: JobHandle) -> None:
        self._spec = spec
        self._job = job
        self._handle = handle
        self._gang = Gang(0 if job.queued else job.pod.gang_minutes)
        self._ending_since: float | None = None

    def drive(self, seen: Observation) -> ExitCode | None:
        """See it on; return how it ended, once it has."""
        if seen.leaving:
            return None
        is_stuck = self._gang.has_waited_too_long(seen)
        if seen.state in ("failed", "succeeded"):
            return self._finish(seen)
        if seen.state == "suspended":
            self._lift_if_due(seen)
        elif is_stuck:
            self._let_go(seen)
        elif seen.suspension is not None and not seen.queued:
            # Somebody else has lifted it, and left the note, which tells nothing of the next one.
            self._handle.lift(seen)
        return None

    def conclude(self, seen: Observation) -> ExitCode | None:
        """Let the pods of a step that is done come to their own end: they may have logs to ship."""
        is_over = seen.state in ("succeeded", "failed", "absent")
        if not is_over and self._seconds_of_ending() < _LEAVING_SECONDS:
            return None
        self._handle.delete(seen)
        return ExitCode.DONE

    def end(self, seen: Observation, why: str, *, for_good: bool) -> ExitCode | None:
        """Suspend it, and wait until no pod is left.

        Args:
            seen: of the job; it may be absent, and pods of it may be left.
            why: in words.
            for_good: delete it then.
        """
        runs = seen.state in ("pending", "running")
        waits_in_a_queue = seen.queued and seen.state == "suspended" and seen.suspension is None
        if (runs or waits_in_a_queue) and not seen.leaving:
            self._handle.stop(seen, why)
        grace = self._spec.runtime.grace_seconds + GRACE_MARGIN_SECONDS
        # Pods of a job that is over stay for as long as it does.
        is_over = seen.state in ("failed", "succeeded")
        is_left = runs or any(not (is_over and pod.over) for pod in seen.pods)
        if is_left and self._seconds_of_ending() < grace + _LOST_SECONDS:
            return None
        if for_good and seen.uid:
            self._handle.delete(seen)
        return ExitCode.PREEMPTED

    def _finish(self, seen: Observation) -> ExitCode | None:
        ended = how_it_ended(self._spec, self._job, seen)
        self._handle.delete(seen)
        if ended is None:
            _log.warning("nobody gave a sign of life to training job %s: again", self._job.name)
            return None
        if isinstance(ended, KinetoscopeError):
            raise ended
        return ended

    def _lift_if_due(self, seen: Observation) -> None:
        note = seen.suspension
        if note is None:  # somebody else's, or a queue's
            return
        if note.kind == "stop" or self._gang.has_paused(note):
            _log.info("lifting the suspension of %s (%s)", self._job.name, note.why)
            self._handle.lift(seen)

    def _let_go(self, seen: Observation) -> None:
        reasons = "; ".join(str(reason) for reason in seen.reasons)
        why = f"pods waited {self._job.pod.gang_minutes:g} minutes for others: {reasons}"
        _log.warning("suspending %s for a while: %s", self._job.name, why)
        self._handle.pause(seen, why, self._gang.pause_seconds())

    def _seconds_of_ending(self) -> float:
        now = time.monotonic()
        if self._ending_since is None:
            self._ending_since = now
        return now - self._ending_since
