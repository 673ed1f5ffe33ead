"""Training as a TrainJob: the launcher of a step submits it, or adopts it, and sees it to its end.

Two launchers may be at it at once: one that was evicted and its successor, those of two starts of a
run, those of two runs that want the same step. What they do is done to a TrainJob of a UID, and may
be done twice; who has the right to go on is the ledger's to decide, never theirs.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from kinetoscope.core.errors import ClusterError, ExitCode, KinetoscopeError, StorageError
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import Engine, TrainingJob, job_name
from kinetoscope.kube.jobs.state import Observation, Reason
from kinetoscope.kube.jobs.submit import delete, find_or_create, resume, suspend
from kinetoscope.kube.jobs.suspension import Suspension
from kinetoscope.kube.jobs.watch import Looks
from kinetoscope.kube.launching.ending import how_it_ended
from kinetoscope.kube.launching.gang import Gang
from kinetoscope.kube.launching.logs import LogPrinter
from kinetoscope.kube.launching.others import Claim, Others
from kinetoscope.kube.launching.teller import JobTeller
from kinetoscope.kube.launching.workflow import WorkflowWatch
from kinetoscope.steps.contract import StepSpec, stop_requested
from kinetoscope.steps.results import step_state
from kinetoscope.storage.open import open_store

# What a supervisor needs after its ranks were killed, to tell how they ended.
GRACE_MARGIN_SECONDS = 90
_LONGEST_LOOK_SECONDS = 10.0
_LEAVING_SECONDS = 60.0
# Beyond their grace, pods stay only where their machine is lost.
_LOST_SECONDS = 120.0

_log = logging.getLogger(__name__)


def training_job(
    spec: StepSpec, spec_uri: str, namespace: str, pod: PodConfig, engine: Engine
) -> TrainingJob:
    """Return the job of a step: the same name for all runs that want it, its own request."""
    runtime = spec.runtime
    return TrainingJob(
        name=job_name(spec.name, spec.uri),
        namespace=namespace,
        run=spec.run_id,
        stage=spec.name,
        command=["python", "-m", "kinetoscope.steps.supervisor", spec_uri],
        num_nodes=runtime.num_nodes,
        procs_per_node=runtime.num_processes,
        pod=pod,
        max_restarts=runtime.max_restarts,
        grace_seconds=round(runtime.grace_seconds) + GRACE_MARGIN_SECONDS,
        launched_for=str(Claim(spec.run_id, spec.start)),
        engine=engine,
    )


class TrainJobLauncher:
    """Runs the attempts of a step in pods of their own.

    Args:
        cluster: where, and in which namespace.
        pod: what each pod gets.
        engine: that trains, which decides the image.
    """

    def __init__(self, cluster: Cluster, pod: PodConfig, engine: Engine) -> None:
        self._cluster = cluster
        self._pod = pod
        self._engine = engine

    def launch(self, spec: StepSpec, spec_uri: str) -> ExitCode:
        """Have the step trained to its end, through whatever happens to pods, nodes and this one.

        Raises:
            ApiError: the API refuses.
            ConfigError: the cluster lacks what the job needs.
            SupersededError: a later start of the run goes on.
            KinetoscopeError: the job failed in a way that its supervisors could not tell.
        """
        job = training_job(spec, spec_uri, self._cluster.namespace, self._pod, self._engine)
        teller = JobTeller(open_store(spec.root_uri), spec.launcher_key, job)
        printer = LogPrinter(self._cluster, job)
        try:
            return _Launch(self._cluster, spec, job, teller).run()
        finally:
            printer.close()
            teller.close()


class _Launch:
    """One launcher's work on one job."""

    def __init__(
        self, cluster: Cluster, spec: StepSpec, job: TrainingJob, teller: JobTeller
    ) -> None:
        self._cluster = cluster
        self._spec = spec
        self._job = job
        self._teller = teller
        self._looks = Looks(cluster, job, longest_seconds=_LONGEST_LOOK_SECONDS)
        self._gang = Gang(0 if job.queued else job.pod.gang_minutes)
        self._others = Others(spec)
        self._me = f"launcher {socket.gethostname()} of run {spec.run_id}, start {spec.start}"
        pod = os.environ.get("KFP_POD_NAME")
        self._workflow = WorkflowWatch(cluster, pod, self._on_workflow_end) if pod else None
        self._ending_since: float | None = None
        self._refused_since: float | None = None

    def run(self) -> ExitCode:
        """Look and act until the step has a result, or none will come of this start."""
        while True:
            seen = self._looks.look()
            code = self._act(seen)
            if code is not None:
                return code
            self._looks.wait_for_change()

    def _act(self, seen: Observation) -> ExitCode | None:
        """Do what is to be done now; return how the step ended, once it has."""
        is_own = seen.launched_for == self._job.launched_for
        self._tell(seen, is_own=is_own)
        try:
            # After the look: what a job did before it ended is in the store by then.
            has_result = step_state(self._spec.uri).result is not None
            must_stop = stop_requested(self._spec)
        except StorageError as error:
            _log.warning("%s; nothing is decided until the store answers", error.message)
            return None
        if seen.state == "unknown":
            return None
        if has_result:
            return self._conclude(seen) if is_own else ExitCode.DONE
        if must_stop or (self._workflow is not None and self._workflow.is_ending):
            return self._end(seen, is_own=is_own, must_stop=must_stop)
        if seen.state == "absent":
            self._create(seen)
        elif is_own:
            return self._drive(seen)
        else:
            self._wait_for_other(seen)
        return None

    def _tell(self, seen: Observation, *, is_own: bool) -> None:
        if seen.state in ("absent", "unknown") or is_own:
            self._teller.see(seen.state, seen)
            return
        text = f"{seen.launched_for or 'somebody else'} trains this step: waiting"
        other = Reason("other-run", f"trainjob {self._job.name}", text)
        self._teller.see("waiting", seen, other)

    def _conclude(self, seen: Observation) -> ExitCode | None:
        """Let the pods come to their own end: they may still have logs to ship."""
        now = time.monotonic()
        self._ending_since = self._ending_since or now
        is_over = seen.state in ("succeeded", "failed", "absent")
        if not is_over and now - self._ending_since < _LEAVING_SECONDS:
            return None
        return self._remove(seen, ExitCode.DONE)

    def _create(self, seen: Observation) -> None:
        if seen.pods:  # of a deleted job, which still save
            return
        _log.info("submitting training job %s", self._job.name)
        try:
            find_or_create(self._cluster, self._job, wait_seconds=_LEAVING_SECONDS)
            self._refused_since = None
        except ClusterError as error:
            # An API server that has just come up refuses what it will allow in a moment.
            now = time.monotonic()
            self._refused_since = self._refused_since or now
            lasts = now - self._refused_since >= _LEAVING_SECONDS
            if lasts and error.exit_code == ExitCode.USER_ERROR:
                raise
            _log.warning("%s; trying again", error.message)

    def _drive(self, seen: Observation) -> ExitCode | None:
        """See our own job on."""
        if seen.leaving:
            return None
        if seen.state in ("failed", "succeeded"):
            return self._finish(seen)
        if seen.state == "suspended":
            self._lift_if_due(seen)
        elif self._gang.has_waited_too_long(seen):
            self._let_go(seen)
        return None

    def _finish(self, seen: Observation) -> ExitCode | None:
        ended = how_it_ended(self._spec, self._job, seen)
        self._remove(seen, ExitCode.FAILED)
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
        if note.kind == "stop" or time.time() >= note.until:
            _log.info("lifting the suspension of %s (%s)", self._job.name, note.why)
            self._try(lambda: resume(self._cluster, self._job, uid=seen.uid))

    def _let_go(self, seen: Observation) -> None:
        reasons = "; ".join(str(reason) for reason in seen.reasons)
        why = f"pods waited {self._job.pod.gang_minutes:g} minutes for others: {reasons}"
        until = time.time() + self._gang.pause_seconds()
        _log.warning("suspending %s for a while: %s", self._job.name, why)
        self._suspend(seen, Suspension(self._me, why, "gang", time.time(), until))

    def _wait_for_other(self, seen: Observation) -> None:
        """Let another start or run have the job as long as it has a use for it."""
        others = self._others
        others.check_superseded(seen)
        if others.may_be_removed(seen):
            _log.info("training job %s, of %s, is over", self._job.name, seen.launched_for)
            self._try(lambda: delete(self._cluster, self._job, uid=seen.uid))
        elif others.must_go(seen) and seen.state != "suspended":
            why = f"start {self._spec.start} of run {self._spec.run_id} goes on with the step"
            self._suspend(seen, Suspension(self._me, why, "stop", time.time()))

    def _end(self, seen: Observation, *, is_own: bool, must_stop: bool) -> ExitCode | None:
        """Suspend our job, wait until no pod is left, then delete it where a stop was asked for."""
        if not is_own and seen.state != "absent":
            return ExitCode.PREEMPTED
        now = time.monotonic()
        self._ending_since = self._ending_since or now
        runs = seen.state in ("pending", "running")
        if runs and seen.suspension is None:
            why = "the run was told to stop" if must_stop else self._why_workflow()
            self._suspend(seen, Suspension(self._me, why, "stop", time.time()))
            return None
        grace = self._spec.runtime.grace_seconds + GRACE_MARGIN_SECONDS
        if seen.pods and now - self._ending_since < grace + _LOST_SECONDS:
            return None
        return self._remove(seen, ExitCode.PREEMPTED) if must_stop else ExitCode.PREEMPTED

    def _remove(self, seen: Observation, code: ExitCode) -> ExitCode:
        """Delete our job, which is over; what can't be deleted now a later launcher sweeps."""
        if seen.state != "absent":
            try:
                delete(self._cluster, self._job, uid=seen.uid)
            except ClusterError as error:
                _log.warning("training job %s is left: %s", self._job.name, error.message)
        return code

    def _suspend(self, seen: Observation, suspension: Suspension) -> None:
        self._try(lambda: suspend(self._cluster, self._job, suspension, uid=seen.uid))

    def _try(self, call: Callable[[], None]) -> None:
        """Ask for a change that the next look asks for again where it did not come to pass."""
        try:
            call()
        except ClusterError as error:
            _log.warning("%s; trying again", error.message)

    def _on_workflow_end(self) -> None:
        seen = self._looks.latest
        if seen is not None and seen.launched_for == self._job.launched_for and seen.uid:
            self._suspend(seen, Suspension(self._me, self._why_workflow(), "stop", time.time()))

    def _why_workflow(self) -> str:
        assert self._workflow is not None
        return f"{self._workflow.name} is being ended"
