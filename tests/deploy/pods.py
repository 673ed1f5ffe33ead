"""Every pod of a set of objects: of workloads, of runtimes, and of templates inside ConfigMaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Object = dict[str, Any]

SERVERS = ("Deployment", "StatefulSet", "DaemonSet")
RUNTIMES = ("TrainingRuntime", "ClusterTrainingRuntime")


@dataclass(frozen=True)
class PodTemplate:
    """A pod that some object describes.

    Attributes:
        owner: the object; for a template in a ConfigMap the object inside.
        namespace: where the pod will run; empty for a cluster-wide runtime (anywhere).
    """

    owner: Object
    namespace: str
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.owner['kind']} {self.namespace}/{self.owner['metadata'].get('name')}"

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.metadata.get("labels") or {})

    def containers(self, *, servers_only: bool = False) -> list[Mapping[str, Any]]:
        init = [] if servers_only else list(self.spec.get("initContainers") or [])
        return init + list(self.spec["containers"])


def templates_in(objects: Sequence[Object]) -> list[Object]:
    """Objects written as YAML into ConfigMaps, in the namespace of their ConfigMap."""
    found = []
    for config_map in objects:
        if config_map["kind"] != "ConfigMap":
            continue
        for key, text in (config_map.get("data") or {}).items():
            item = yaml.load(text, yaml.CSafeLoader) if key.endswith((".yaml", ".yml")) else None
            if isinstance(item, dict) and "kind" in item and "apiVersion" in item:
                place = {"namespace": config_map["metadata"].get("namespace")}
                found.append(item | {"metadata": place | item.get("metadata", {})})
    return found


def pods_of(objects: Sequence[Object]) -> list[PodTemplate]:
    """The pods of all objects, those of templates in ConfigMaps included."""
    return [pod for item in [*objects, *templates_in(objects)] for pod in _pods(item)]


def runtime_pod(runtime: Mapping[str, Any]) -> Object:
    """The pod template of a runtime's replicated job `node`."""
    jobs = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (node,) = [job for job in jobs if job["name"] == "node"]
    template: Object = node["template"]["spec"]["template"]
    return template


def _pods(item: Object) -> Iterator[PodTemplate]:
    kind = item["kind"]
    namespace = item["metadata"].get("namespace") or ""
    if kind == "Pod":
        yield PodTemplate(item, namespace, item["metadata"], item["spec"])
    elif kind in (*SERVERS, "Job"):
        template = item["spec"]["template"]
        yield PodTemplate(item, namespace, template.get("metadata") or {}, template["spec"])
    elif kind == "CronJob":
        template = item["spec"]["jobTemplate"]["spec"]["template"]
        yield PodTemplate(item, namespace, template.get("metadata") or {}, template["spec"])
    elif kind in RUNTIMES:
        template = runtime_pod(item)
        yield PodTemplate(item, namespace, template.get("metadata") or {}, template["spec"])
