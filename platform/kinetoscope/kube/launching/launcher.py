"""Training as a TrainJob: the launcher of a step submits it, or adopts it, and sees it to its end.

Two launchers may be at it at once: one that was evicted and its successor, those of two starts of a
run, those of two runs that want the same step. What they do is done to a TrainJob of a UID, and may
be done twice; who has the right to go on is the ledger's to decide, never theirs.
"""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace

from kinetoscope.core.errors import ClusterError, ExitCode, StorageError
from kinetoscope.core.settings import kubeflow_pod
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import Engine, TrainingJob, job_name
from kinetoscope.kube.jobs.state import Observation, Reason
from kinetoscope.kube.jobs.submit import find_or_create
from kinetoscope.kube.jobs.watch import Looks
from kinetoscope.kube.launching.handle import JobHandle
from kinetoscope.kube.launching.logs import LogPrinter
from kinetoscope.kube.launching.others import Claim, Others
from kinetoscope.kube.launching.own_job import GRACE_MARGIN_SECONDS, OwnJob
from kinetoscope.kube.launching.teller import JobTeller
from kinetoscope.kube.launching.workflow import WorkflowWatch
from kinetoscope.steps.contract import StepSpec, stop_requested
from kinetoscope.steps.repeating import may_pass
from kinetoscope.steps.results import step_state
from kinetoscope.storage.open import open_store

_LONGEST_LOOK_SECONDS = 10.0
_LEAVING_SECONDS = 60.0

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
        me = f"launcher {socket.gethostname()} of run {spec.run_id}, start {spec.start}"
        self._handle = JobHandle(cluster, job, me)
        self._own = OwnJob(spec, job, self._handle)
        self._others = Others(spec)
        pod = kubeflow_pod()
        self._workflow = WorkflowWatch(cluster, pod, self._on_workflow_end) if pod else None
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
            return self._decide(seen, is_own=is_own)
        except (StorageError, OSError) as error:
            if not may_pass(error):
                raise
            _log.warning("%s; nothing is decided until the store answers", error)
            return None

    def _decide(self, seen: Observation, *, is_own: bool) -> ExitCode | None:
        # After the look: what a job did before it ended is in the store by then.
        has_result = step_state(self._spec.uri).result is not None
        must_stop = stop_requested(self._spec)
        if seen.state == "unknown":
            return None
        is_ours = is_own or self._others.is_of_earlier_start(seen)
        if has_result:
            return self._own.conclude(seen) if is_ours else ExitCode.DONE
        if must_stop or self._is_ending():
            why = "the run was told to stop" if must_stop else self._why_workflow()
            if is_ours or seen.state == "absent":
                return self._own.end(seen, why, for_good=must_stop)
            return ExitCode.PREEMPTED
        self._others.check_superseded(seen)
        return self._go_on(seen, is_own=is_own)

    def _go_on(self, seen: Observation, *, is_own: bool) -> ExitCode | None:
        if seen.state == "absent":
            self._create(seen)
            return None
        self._refused_since = None
        if is_own:
            return self._own.drive(seen)
        self._wait_for_other(seen)
        return None

    def _tell(self, seen: Observation, *, is_own: bool) -> None:
        if is_own:
            self._teller.see(seen.state, seen)
            return
        seen = replace(seen, failures=())  # they are another run's to tell, or told already
        if seen.state in ("absent", "unknown"):
            self._teller.see(seen.state, seen)
            return
        text = f"{seen.launched_for or 'somebody else'} trains this step: waiting"
        other = Reason("other-run", f"trainjob {self._job.name}", text)
        self._teller.see("waiting", seen, other)

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

    def _wait_for_other(self, seen: Observation) -> None:
        """Let another start or run have the job as long as it has a use for it."""
        if self._others.may_be_removed(seen):
            _log.info("training job %s, of %s, is over", self._job.name, seen.launched_for)
            self._handle.delete_as_seen(seen)
        elif self._others.must_go(seen):
            why = f"start {self._spec.start} of run {self._spec.run_id} goes on with the step"
            self._handle.stop(seen, why)

    def _is_ending(self) -> bool:
        return self._workflow is not None and self._workflow.is_ending

    def _on_workflow_end(self) -> None:
        seen = self._looks.latest
        if seen is not None and seen.launched_for == self._job.launched_for and seen.uid:
            self._handle.stop(seen, self._why_workflow())

    def _why_workflow(self) -> str:
        assert self._workflow is not None
        return f"{self._workflow.name} is being ended"
