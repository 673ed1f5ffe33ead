"""The chart's template of a training job's runtime.

The chart keeps it in a ConfigMap beside the runs. It is valid YAML by itself and is changed as a
structure, never as text.
"""

from __future__ import annotations

from typing import Any

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.kube.api_errors import AbsentError
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.request import Engine

CONTAINER = "node"
"""Name of the replicated job and of its container, which Trainer's torch policy looks for."""

JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
"""Label of what a job's JobSet makes: the job's name."""

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
        training_container(replicated_job(template)["template"]["spec"]["template"]["spec"])
    except (KeyError, TypeError, StopIteration):
        raise ConfigError(
            f"{where} has no replicated job {CONTAINER!r} with a container {CONTAINER!r}"
        ) from None
    return template


def replicated_job(runtime: Manifest) -> Manifest:
    """Return the runtime's replicated job that trains."""
    jobs: list[Manifest] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return next(job for job in jobs if job["name"] == CONTAINER)


def training_container(pod_spec: Manifest) -> Manifest:
    """Return the container that trains, of a pod's spec."""
    containers: list[Manifest] = pod_spec["containers"]
    return next(container for container in containers if container["name"] == CONTAINER)
