"""A minute's training job, through the module that launchers use; deleted in any case."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.findings import Finding
from kinetoscope.core.units import MIB, format_bytes, format_seconds
from kinetoscope.doctor.cluster.chart_objects import read_config_map
from kinetoscope.doctor.cluster.nodes import gpu_nodes, gpus
from kinetoscope.kube.api_errors import ApiError, ForbiddenError
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs.logs import logs
from kinetoscope.kube.jobs.submit import TrainingJob, delete, observe, submit

if TYPE_CHECKING:
    from kinetoscope.doctor.cluster.context import Context
    from kinetoscope.kube.jobs.state import Observation

CHECK, CHECKPOINT_CHECK, SHM_CHECK, METRICS_CHECK, GPU_CHECK = (
    "training",
    "training checkpoint",
    "training shm",
    "metrics target",
    "gpu in pods",
)

_METRIC = "kino_train_steps_total"
_LINGER_SECONDS = 15
_POLL_SECONDS = 1.0
_DELETION_SECONDS = 30.0
_LEAST_SHM_BYTES = 64 * MIB
_LAST_LINES = 40
# How long a reason may stand before it counts: images are pulled and nodes added meanwhile.
_PATIENCE_SECONDS = {"unschedulable": 60.0, "image": 30.0, "event": 90.0, "create": 90.0}
_USUAL_PATIENCE_SECONDS = 20.0


@dataclass(slots=True)
class Course:
    """What was seen of the job."""

    metrics_port: str = ""
    last: Observation | None = None
    stuck: bool = False
    metrics: Finding | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    tail: str = ""


def check_training(context: Context) -> list[Finding]:
    """Run the smoke training job and read its report; look at its metrics while it lingers."""
    if "training" in context.options.without:
        return [Finding(CHECK, "skipped", "nothing", "left out (--without training)")]
    job = _job(context)
    tried = (
        f"TrainJob {job.name} in {context.namespace}: {job.num_nodes} pods, "
        f"{job.gpus_per_node} GPUs each, {' '.join(job.command)}"
    )
    context.tell(tried)
    started = time.monotonic()
    try:
        submit(context.cluster, job)
        course = _follow(context, job)
    except KinetoscopeError as error:
        hint = error.hint or "the message tells which object is missing or refused"
        return [Finding(CHECK, "bad", tried, error.message, hint)]
    finally:
        _remove(context, job)
    return judge_course(course, job, tried, format_seconds(time.monotonic() - started))


def judge_course(course: Course, job: TrainingJob, tried: str, took: str) -> list[Finding]:
    """Return the findings of a job that was followed to its end or until it was stuck.

    Args:
        course: what was seen.
        job: as submitted.
        tried: for the findings.
        took: how long it took, in words.
    """
    seen = course.last
    if seen is None or seen.state != "succeeded":
        return [_failure(course, tried), *([course.metrics] if course.metrics else [])]
    metrics = course.metrics or Finding(
        METRICS_CHECK, "poor", tried, "no pod was seen running", "run the doctor again"
    )
    return [*judge_reports(course.reports, job, tried, took), metrics]


def judge_reports(
    reports: list[dict[str, Any]], job: TrainingJob, tried: str, took: str
) -> list[Finding]:
    """Return the findings on the reports of a job's nodes.

    Args:
        reports: the JSON object of each node's first rank, by rank.
        job: as submitted.
        tried: for the findings.
        took: how long it took, in words.
    """
    digests = {report["weights_digest"] for report in reports}
    if len(reports) != job.num_nodes or len(digests) != 1:
        found = f"{len(reports)} of {job.num_nodes} pods reported, {len(digests)} kinds of weights"
        hint = "kinetoscope's images of one version for all? look at the network between the pods"
        return [Finding(CHECK, "bad", tried, found, hint)]
    first = reports[0]
    per_step = min(first["seconds_per_step"])
    found = (
        f"{first['world_size']} ranks agree after {first['steps']} steps, "
        f"{per_step:.3f} s per step on {first['device']}; {took} in all"
    )
    findings = [Finding(CHECK, "ok", tried, found), _checkpoint(first, tried), _shm(first, tried)]
    if job.gpus_per_node:
        findings.append(_gpu(first, tried))
    return findings


def _checkpoint(report: dict[str, Any], tried: str) -> Finding:
    saved = report["checkpoint"]
    if not saved:
        hint = "the ConfigMap of the runs' environment lacks KINO_STORE_URI: helm upgrade"
        return Finding(CHECKPOINT_CHECK, "bad", tried, "no object store is named", hint)
    found = f"{format_bytes(saved['bytes'])} written, read back, compared and deleted"
    return Finding(CHECKPOINT_CHECK, "ok", tried, found)


def _shm(report: dict[str, Any], tried: str) -> Finding:
    size = int(report["shm_bytes"])
    if size <= _LEAST_SHM_BYTES:
        hint = "set training.shm.sizeLimit in the chart's values; helm upgrade"
        return Finding(SHM_CHECK, "bad", tried, f"{format_bytes(size)} at /dev/shm", hint)
    return Finding(SHM_CHECK, "ok", tried, f"{format_bytes(size)} at /dev/shm")


def _gpu(report: dict[str, Any], tried: str) -> Finding:
    if report["device"].startswith("cuda"):
        return Finding(GPU_CHECK, "ok", tried, report["device"])
    hint = "look at the NVIDIA driver, the container toolkit and the torch build of the image"
    found = f"a GPU was given to the pod, but torch {report['torch']} ran on {report['device']}"
    return Finding(GPU_CHECK, "poor", tried, found, hint)


def _failure(course: Course, tried: str) -> Finding:
    seen = course.last
    if seen is None:
        return Finding(CHECK, "bad", tried, "never seen", "raise --timeout-seconds")
    reasons = [*seen.reasons, *(why for pod in seen.failures if (why := pod.why()))]
    texts = list(dict.fromkeys(str(reason) for reason in reasons))
    texts += [" ".join(pod.message.split()) for pod in seen.failures[:1] if pod.message]
    state = "is stuck" if course.stuck else f"ended as {seen.state}"
    found = f"the job {state}: {'; '.join(texts) or 'no reason given'}"
    if course.tail and not seen.failures:
        found += f"; its last line: {course.tail}"
    hint = next((reason.hint for reason in reasons if reason.hint), None)
    if hint is None and seen.state in ("pending", "running"):
        hint = "raise --timeout-seconds: the first pull of the image takes minutes"
    return Finding(
        CHECK, "bad", tried, found, hint or "the message is the job's own; docs/doctor.md"
    )


def _job(context: Context) -> TrainingJob:
    num_nodes, with_gpu = context.options.smoke_nodes, 0
    if "gpu" not in context.options.without:
        count = _free_gpus(context)
        if count:
            num_nodes, with_gpu = min(num_nodes, count), 1
    name = f"kino-doctor-{uuid4().hex[:8]}"
    return TrainingJob(
        name=name,
        namespace=context.namespace,
        run=name,
        stage="smoke",
        command=[
            *("python", "-m", "kinetoscope.training.smoke.job"),
            *("--linger", str(_LINGER_SECONDS), "--name", name),
        ],
        num_nodes=num_nodes,
        pod=PodConfig(gpus=with_gpu),
        max_restarts=0,
    )


def _free_gpus(context: Context) -> int:
    try:
        nodes = context.ask("/api/v1/nodes")["items"]
    except ApiError:
        return 0
    return sum(gpus(node) for node in gpu_nodes(nodes))


def _follow(context: Context, job: TrainingJob) -> Course:
    course = Course(read_config_map(context, "environment").get("KINO_METRICS_PORT", ""))
    since = time.monotonic()
    while context.seconds_left() > _DELETION_SECONDS:
        seen = observe(context.cluster, job)
        if course.last is None or seen.state != course.last.state:
            context.tell(f"{job.name}: {seen.state}")
        if course.last is None or not seen.reasons or seen.reasons[0].kind != _kind(course.last):
            since = time.monotonic()
        course.last = seen
        if seen.finished:
            break
        if seen.state == "running":
            _look_at_metrics(context, course, seen)
        elif seen.state == "pending" and seen.reasons:
            patience = _PATIENCE_SECONDS.get(seen.reasons[0].kind, _USUAL_PATIENCE_SECONDS)
            course.stuck = time.monotonic() - since > patience
            if course.stuck:
                return course
        time.sleep(_POLL_SECONDS)
    _read_logs(context, job, course)
    return course


def _kind(seen: Observation) -> str:
    return seen.reasons[0].kind if seen.reasons else ""


def _read_logs(context: Context, job: TrainingJob, course: Course) -> None:
    for rank in range(job.num_nodes):
        try:
            lines = logs(context.cluster, job, rank, last_lines=_LAST_LINES).strip().splitlines()
            course.tail = lines[-1] if lines else ""
            report = json.loads(course.tail)
        except (KinetoscopeError, ValueError):
            continue
        if isinstance(report, dict) and "weights_digest" in report:
            course.reports.append(report)


def _look_at_metrics(context: Context, course: Course, seen: Observation) -> None:
    """Scrape the first node through the API server, until steps are counted."""
    known = course.metrics
    if known and (known.state == "skipped" or (known.state == "ok" and _counts(known.found))):
        return
    pod = next((pod for pod in seen.pods if pod.rank == 0 and pod.phase == "Running"), None)
    if pod is None:
        return
    port = course.metrics_port
    path = f"/api/v1/namespaces/{context.namespace}/pods/{pod.name}:{port}/proxy/metrics"
    tried = f"GET {path} while the smoke job ran"
    try:
        text = context.ask_text(path)
    except ForbiddenError as error:
        hint = "let somebody who may get pods/proxy run the doctor"
        course.metrics = Finding(METRICS_CHECK, "skipped", tried, error.detail, hint)
        return
    except ApiError as error:
        if known and known.state == "ok":  # it answered before; the pod is ending now
            return
        text, why = "", error.detail
    else:
        why = f"it answers, but without {_METRIC}"
    lines = [line for line in text.splitlines() if line.startswith(_METRIC)]
    if lines:
        course.metrics = Finding(METRICS_CHECK, "ok", tried, lines[0])
    else:
        hint = f"is port {port} open to the API server and Prometheus (NetworkPolicy)?"
        course.metrics = Finding(METRICS_CHECK, "poor", tried, why, hint)


def _counts(line: str) -> bool:
    return not line.endswith((" 0", " 0.0"))


def _remove(context: Context, job: TrainingJob) -> None:
    try:
        delete(context.cluster, job, wait_seconds=_DELETION_SECONDS / 2)
    except KinetoscopeError as error:
        context.tell(f"{job.name} may be left behind: {error.message}")
