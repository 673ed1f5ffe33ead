"""What can be seen of a training job in one look: its state, its pods, and why it is stuck."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kinetoscope.core.errors import ExitCode
from kinetoscope.kube.jobs.suspension import Suspension
from kinetoscope.kube.jobs.template import CONTAINER
from kinetoscope.steps.endings import RAISE_MEMORY

JobState = Literal["pending", "running", "suspended", "succeeded", "failed", "absent", "unknown"]

_RANK_LABEL = "batch.kubernetes.io/job-completion-index"
_ATTEMPT_LABEL = "jobset.sigs.k8s.io/restart-attempt"
_STARTING = ("ContainerCreating", "PodInitializing")
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff")
_IMAGE_REASONS = (*_PULL_REASONS, "InvalidImageName", "ErrImageNeverPull")
_DISRUPTIONS = ("Evicted", "DisruptionTarget", "NodeLost")
_BY_TAINT = "DeletionByTaintManager"
# Told better and more freshly by the pods' own status, or no trouble at all.
_SKIPPED_EVENTS = ("FailedScheduling", "Failed", "BackOff", "DefaultFailurePolicy")
_SKIPPED_SUFFIXES = ("FailurePolicyAction", "BackoffLimitExceeded", "PodFailurePolicy")
_SKIPPED_PREFIX = "FailurePolicy"  # what a JobSet's rules did: the pod's own end says why
_HINTS = {
    "unschedulable": "ask for less, add nodes, or wait until others are done",
    "quota": "raise the namespace's ResourceQuota, or wait until other runs are done",
    "pod-security": "the namespace enforces a PodSecurity level that the pod does not keep",
    "image": "check the name, the registry's reachability and the pull secret",
    "out-of-memory": RAISE_MEMORY,
    "volume": "a Secret, a ConfigMap or a claim that the pod mounts is missing",
    "config": "a Secret or a ConfigMap that the pod names, or a key of it, is missing",
    "deleted": "submit it again; a step continues from its last checkpoint",
    "node-lost": "its pods stay until it comes back, or until somebody who knows that it is off "
    "says so: kubectl taint node NODE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
}
_EXIT_MEANINGS = {
    ExitCode.FAILED: "failed; restarted within the limit",
    ExitCode.USER_ERROR: "user or config error; not restarted",
    ExitCode.DISK_FULL: "a disk was full; restarted within the limit",
    ExitCode.PREEMPTED: "preempted, state saved; restarted for free",
    ExitCode.STALLED: "stalled; restarted within the limit",
    ExitCode.DIVERGED: "diverged; not restarted",
    ExitCode.LOST_PEER: "lost a peer, whose own end says why; restarted for free",
    ExitCode.WITHDRAWN: "withdrawn, state saved; not restarted",
    137: "killed",
    143: "terminated",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job is not running, or what went wrong.

    Args:
        kind: unschedulable, quota, pod-security, image, volume, config, create, exit,
            out-of-memory, evicted, node-lost, scaling, suspended, queued, other-run, deleted,
            leaving, failed, api or event.
        subject: the object that says so, such as ``pod train-node-0-0``.
        message: in Kubernetes' words.
    """

    kind: str
    subject: str
    message: str

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return _HINTS.get(self.kind)

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.message}"


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod, that is one node of the job.

    Args:
        name: of the pod.
        uid: of the pod; a restart makes new ones.
        rank: of the node.
        attempt: how often the whole job had been restarted before.
        phase: Pending, Running, Succeeded or Failed.
        stopping: it was told to stop and is within its grace.
        exit_code: of the container, once it has ended.
        reason: such as OOMKilled, Error, Evicted, NodeLost, ImagePullBackOff, Unschedulable; else
            empty.
        message: of that reason; of a failed container its last lines.
    """

    name: str
    uid: str
    rank: int
    attempt: int
    phase: str
    stopping: bool
    exit_code: int | None
    reason: str
    message: str
    node: str = ""
    """The machine that it was placed on."""
    ready: bool = True
    """Its machine answers, as far as the cluster knows."""

    @property
    def started(self) -> bool:
        """Whether its container has run; the phase lags behind."""
        return self.phase != "Pending" or self.exit_code is not None

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more, as far as its machine has told."""
        return self.phase in ("Succeeded", "Failed") or self.exit_code is not None

    @property
    def failed(self) -> bool:
        """Whether it has ended badly, or its machine is lost."""
        ended_badly = self.phase == "Failed" or self.exit_code not in (None, 0)
        return ended_badly or self.reason == "NodeLost"

    def why(self) -> Reason | None:
        """Return what is wrong with it; None while all is well."""
        subject = f"pod {self.name}"
        if self.reason == "OOMKilled":
            return Reason("out-of-memory", subject, "the kernel killed it at its memory limit")
        if self.reason == "NodeLost":
            return self._lost()
        if self.reason in _DISRUPTIONS:
            return Reason("evicted", subject, self.message)
        if self.exit_code not in (None, 0):
            meaning = _EXIT_MEANINGS.get(self.exit_code or 0, "restarted within the limit")
            return Reason("exit", subject, f"exit code {self.exit_code} ({meaning})")
        if self.phase == "Running" and not self.ready and not self.stopping:
            return self._lost()
        if self.stopping or not self.reason:
            return None
        kinds = {"Unschedulable": "unschedulable", "CreateContainerConfigError": "config"}
        kind = "image" if self.reason in _IMAGE_REASONS else kinds.get(self.reason, "create")
        return Reason(kind, subject, f"{self.reason}: {self.message}".removesuffix(": "))

    def _lost(self) -> Reason:
        text = f"does not answer; pod {self.name} runs there, if at all"
        return Reason("node-lost", f"node {self.node}", text)


@dataclass(frozen=True, slots=True)
class Observation:
    """A training job at one moment.

    Args:
        state: pending until every node has started; suspended as soon as that is asked, also
            while pods still save (then ``pods`` is not empty); absent when there is no TrainJob,
            though pods of a deleted one may still save; unknown when the API did not answer, which
            says nothing about the job.
        pods: those that exist now, by rank.
        reasons: why it is not running, or what went wrong.
        failures: pods that failed; `wait` keeps those that a restart has deleted meanwhile.
        counted_restarts: those of the whole job that count towards its limit. Free ones are in no
            count here: Kubernetes takes some suspensions for such.
        launched_for: as in the request.
        suspension: who suspended it and why, where they left a note.
        leaving: it was deleted and is on its way out.
        uid: of the TrainJob.
        version: of the TrainJob, which any change of it raises.
        queued: Kueue starts and suspends it.
    """

    state: JobState
    pods: tuple[PodState, ...] = ()
    reasons: tuple[Reason, ...] = ()
    failures: tuple[PodState, ...] = ()
    counted_restarts: int = 0
    launched_for: str = ""
    suspension: Suspension | None = None
    leaving: bool = False
    uid: str = ""
    version: str = field(default="", compare=False)
    queued: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing more happens by itself."""
        over = self.state in ("succeeded", "failed")
        return over or (self.state in ("suspended", "absent") and not self.pods)


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Read a pod, as the API's JSON has it."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    exit_code, reason, message = _container_state(status)
    condition_reason, text = _pod_condition(status)
    if condition_reason == _BY_TAINT:
        # Whoever taints a node that answers has its pods leave, too.
        silent = exit_code is None and not _is_ready(status)
        condition_reason = "NodeLost" if silent else "DisruptionTarget"
    if not reason or (condition_reason in _DISRUPTIONS and reason != "OOMKilled"):
        reason, message = condition_reason, text
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        rank=int(labels.get(_RANK_LABEL, 0)),
        attempt=int(labels.get(_ATTEMPT_LABEL, 0)),
        phase=status.get("phase") or "Pending",
        stopping=bool(metadata.get("deletionTimestamp")),
        exit_code=exit_code,
        reason=reason,
        message=message,
        node=(pod.get("spec") or {}).get("nodeName") or "",
        ready=_is_ready(status),
    )


def job_state(train_job: Mapping[str, Any], pods: Iterable[PodState], num_nodes: int) -> JobState:
    """Return the state that a TrainJob and its pods add up to."""
    if condition(train_job, "Complete"):
        return "succeeded"
    if condition(train_job, "Failed"):
        return "failed"
    if train_job["spec"].get("suspend"):
        return "suspended"
    started = {pod.rank for pod in pods if pod.started and not pod.stopping}
    return "running" if len(started) >= num_nodes else "pending"


def condition(value: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Return an object's condition of that type if it is true."""
    for one in (value.get("status") or {}).get("conditions") or ():
        if one["type"] == kind and one["status"] == "True":
            found: Mapping[str, Any] = one
            return found
    return None


def event_reason(event: Mapping[str, Any]) -> Reason | None:
    """Return what a warning event says about a job that does not start; None for noise."""
    reason, message = str(event.get("reason") or ""), " ".join((event.get("message") or "").split())
    skipped = reason in _SKIPPED_EVENTS or reason.startswith(_SKIPPED_PREFIX)
    if skipped or reason.endswith(_SKIPPED_SUFFIXES):
        return None
    about = event["involvedObject"]
    subject = f"{str(about.get('kind')).lower()} {about.get('name')}"
    if "violates PodSecurity" in message:
        kind = "pod-security"
    elif "exceeded quota" in message:
        kind = "quota"
    elif reason in ("FailedMount", "FailedAttachVolume"):
        kind = "volume"
    else:
        kind = "create" if "Creat" in reason else "event"
    return Reason(kind, subject, f"{reason}: {message}")


def _container_state(status: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """Return (exit code, reason, message) of the training container."""
    statuses = status.get("containerStatuses") or ()
    state = next((one.get("state") or {} for one in statuses if one["name"] == CONTAINER), {})
    if ended := state.get("terminated"):
        code = int(ended["exitCode"])
        reason = str(ended.get("reason") or "") if code else ""
        return code, reason, str(ended.get("message") or "")
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _PULL_REASONS:  # they alternate while the node tries again
        return None, "ImagePullBackOff", message.rsplit("ErrImagePull: ", 1)[-1]
    return None, "" if reason in _STARTING else reason, message


def _pod_condition(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return (reason, message) of a pod that was evicted or can't be placed."""
    if status.get("reason"):
        return str(status["reason"]), str(status.get("message") or "")
    for one in status.get("conditions") or ():
        text = str(one.get("message") or "")
        if one["type"] == "DisruptionTarget" and one["status"] == "True":
            by_taint = one.get("reason") == _BY_TAINT
            return _BY_TAINT if by_taint else "DisruptionTarget", text
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return str(one.get("reason") or "Unschedulable"), text
    return "", ""


def _is_ready(status: Mapping[str, Any]) -> bool:
    """Tell whether its machine answers: the cluster sets this to false where one does not."""
    conditions = status.get("conditions") or ()
    return all(one["status"] != "False" for one in conditions if one["type"] == "Ready")
