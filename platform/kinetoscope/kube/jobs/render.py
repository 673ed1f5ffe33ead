"""From the chart's template to the two objects of a training job.

A TrainJob can't set priority, restart limit, ports or failure policy (Trainer 2.3 refuses them in
``runtimePatches``), so each job gets a runtime of its own.
"""

from __future__ import annotations

import copy
import math

from kinetoscope.kube.config import QUEUE_LABEL
from kinetoscope.kube.jobs.pods import change_pod
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.template import Manifest, replicated_job

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
TRAIN_JOBS = "trainjobs"
RUNTIMES = "trainingruntimes"
RUN_LABEL = "kinetoscope.dev/run"
STAGE_LABEL = "kinetoscope.dev/stage"
DIGEST_ANNOTATION = "kinetoscope.dev/spec-digest"
LAUNCH_ANNOTATION = "kinetoscope.dev/launched-for"


def render_runtime(template: Manifest, job: TrainingJob, name: str = "") -> Manifest:
    """Return the TrainingRuntime of one job, which has the job's name unless it is given one."""
    runtime = copy.deepcopy(template)
    runtime["metadata"] = _metadata(runtime.get("metadata", {}), job) | {"name": name or job.name}
    jobset = runtime["spec"]["template"]
    node = replicated_job(runtime)["template"]
    pod = node["spec"]["template"]
    for part in (jobset, node, pod):
        labels = part.setdefault("metadata", {}).setdefault("labels", {})
        labels.update(_labels(job))
    if job.max_restarts is not None:
        jobset["spec"].setdefault("failurePolicy", {})["maxRestarts"] = job.max_restarts
    change_pod(pod, job)
    return runtime


def render_train_job(template: Manifest, job: TrainingJob, runtime: str = "") -> Manifest:
    """Return the TrainJob, which runs the runtime of a name, or of its own.

    One for a queue is made suspended: Kueue starts it.
    """
    env = {**job.pod.env, **job.env}
    spec: Manifest = {
        "runtimeRef": {
            "apiGroup": GROUP,
            "kind": "TrainingRuntime",
            "name": runtime or job.name,
        },
        "trainer": {
            "numNodes": job.num_nodes,
            # Left out, Trainer would start a rank per CPU.
            "numProcPerNode": job.procs_per_node,
            "command": list(job.command),
            "env": [{"name": name, "value": env[name]} for name in sorted(env)],
        },
    }
    metadata = _metadata(template.get("metadata", {}), job)
    if job.pod.queue is not None:
        spec["suspend"] = True
        metadata["labels"][QUEUE_LABEL] = job.pod.queue
    if job.pod.deadline_hours is not None:
        spec["activeDeadlineSeconds"] = math.ceil(job.pod.deadline_hours * 3600)
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": spec,
    }


def runtime_of(train_job: Manifest) -> str:
    """Return the name of the runtime that a TrainJob runs."""
    name: str = train_job["spec"]["runtimeRef"]["name"]
    return name


def _metadata(of_template: Manifest, job: TrainingJob) -> Manifest:
    labels = dict(of_template.get("labels") or {})
    labels.pop("helm.sh/chart", None)
    labels |= {"app.kubernetes.io/managed-by": "kinetoscope", **_labels(job)}
    annotations = {**(of_template.get("annotations") or {}), DIGEST_ANNOTATION: job.digest()}
    if job.launched_for:
        annotations[LAUNCH_ANNOTATION] = job.launched_for
    return {
        "name": job.name,
        "namespace": job.namespace,
        "labels": labels,
        "annotations": annotations,
    }


def _labels(job: TrainingJob) -> dict[str, str]:
    return {RUN_LABEL: job.run, STAGE_LABEL: job.stage}
