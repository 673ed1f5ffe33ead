"""From the chart's template to the two objects of a training job.

The chart keeps the template in a ConfigMap beside the runs. It is valid YAML by itself and is
changed as a structure, never as text. A TrainJob can't set priority, restart limit, ports or
failure policy (Trainer 2.3 refuses them in ``runtimePatches``), so each job gets a runtime of its
own.
"""

from __future__ import annotations

import copy
from typing import Any

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.kube.api_errors import AbsentError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import Engine, TrainingJob

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
RUN_LABEL = "kinetoscope.dev/run"
STAGE_LABEL = "kinetoscope.dev/stage"
DIGEST_ANNOTATION = "kinetoscope.dev/spec-digest"
CONTAINER = "node"
"""Name of the replicated job and of its container, which Trainer's torch policy looks for."""

GPU_RESOURCE = "nvidia.com/gpu"

_TEMPLATE_KEYS: dict[Engine, str] = {
    "torch_ddp": "training-runtime.yaml",
    "colossalai_ddp": "training-runtime-colossalai.yaml",
}

Manifest = dict[str, Any]


def read_template(cluster: Cluster, namespace: str, engine: Engine = "torch_ddp") -> Manifest:
    """Read the chart's TrainingRuntime template.

    Raises:
        NotFoundError: when the chart has not put it there.
        ConfigError: when it is no TrainingRuntime.
        ApiError: when the API does not answer or refuses.
    """
    name, key = f"{cluster.fullname}-templates", _TEMPLATE_KEYS[engine]
    where = f"ConfigMap {name} in namespace {namespace}"
    try:
        data = cluster.core.read_namespaced_config_map(name, namespace).data or {}
    except AbsentError:
        raise NotFoundError(
            f"there is no {where}: release {cluster.release} does not serve that namespace",
            hint=f"add {namespace} to runNamespaces, then: helm upgrade --install "
            f"{cluster.release} charts/kinetoscope --namespace NAMESPACE --values VALUES",
        ) from None
    if key not in data:
        raise NotFoundError(
            f"{where} has no key {key}; it has {', '.join(sorted(data)) or 'none'}",
            hint=f"helm upgrade {cluster.release} with this version's chart",
        )
    return parse_template(data[key], where=f"{where}, {key}")


def parse_template(text: str, *, where: str) -> Manifest:
    """Return the template as a structure whose parts that we change are all there.

    Raises:
        ConfigError: naming what is missing.
    """
    template = parse_cluster_object(text, where)
    if not isinstance(template, dict) or template.get("kind") != "TrainingRuntime":
        raise ConfigError(f"{where} is no TrainingRuntime")
    try:
        _container(template)
    except (KeyError, TypeError, StopIteration):
        raise ConfigError(
            f"{where} has no replicated job {CONTAINER!r} with a container {CONTAINER!r}"
        ) from None
    return template


def render_runtime(template: Manifest, job: TrainingJob) -> Manifest:
    """Return the TrainingRuntime of one job."""
    runtime = copy.deepcopy(template)
    metadata = _metadata(runtime.get("metadata", {}), job)
    runtime["metadata"] = metadata
    jobset = runtime["spec"]["template"]
    node = _replicated_job(runtime)["template"]
    pod = node["spec"]["template"]
    for part in (jobset, node, pod):
        labels = part.setdefault("metadata", {}).setdefault("labels", {})
        labels.update(_labels(job))
    container = _container(runtime)
    # The last lines of a failed rank stay in its pod's status, where we look anyway.
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    if job.image is not None:
        container["image"] = job.image
    if job.max_restarts is not None:
        jobset["spec"].setdefault("failurePolicy", {})["maxRestarts"] = job.max_restarts
    if job.priority_class is not None:
        pod["spec"]["priorityClassName"] = job.priority_class
    return runtime


def render_train_job(template: Manifest, job: TrainingJob) -> Manifest:
    """Return the TrainJob, which runs the runtime of the same name."""
    trainer: Manifest = {
        "numNodes": job.num_nodes,
        # Left out, Trainer would start a rank per CPU.
        "numProcPerNode": job.procs_per_node,
        "command": list(job.command),
        "env": [{"name": name, "value": job.env[name]} for name in sorted(job.env)],
    }
    if job.gpus_per_node:
        gpus = {GPU_RESOURCE: str(job.gpus_per_node)}
        trainer["resourcesPerNode"] = {"requests": gpus, "limits": dict(gpus)}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": _metadata(template.get("metadata", {}), job),
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": job.name},
            "trainer": trainer,
        },
    }


def _metadata(of_template: Manifest, job: TrainingJob) -> Manifest:
    labels = dict(of_template.get("labels") or {})
    labels.pop("helm.sh/chart", None)
    labels |= {"app.kubernetes.io/managed-by": "kinetoscope", **_labels(job)}
    annotations = {**(of_template.get("annotations") or {}), DIGEST_ANNOTATION: job.digest()}
    return {
        "name": job.name,
        "namespace": job.namespace,
        "labels": labels,
        "annotations": annotations,
    }


def _labels(job: TrainingJob) -> dict[str, str]:
    return {RUN_LABEL: job.run, STAGE_LABEL: job.stage}


def _replicated_job(runtime: Manifest) -> Manifest:
    jobs: list[Manifest] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return next(job for job in jobs if job["name"] == CONTAINER)


def _container(runtime: Manifest) -> Manifest:
    pod = _replicated_job(runtime)["template"]["spec"]["template"]["spec"]
    containers: list[Manifest] = pod["containers"]
    return next(container for container in containers if container["name"] == CONTAINER)
