"""Renders the chart in-process with the real Helm 4 engine, as on a cluster with given APIs."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml
from helm_python import _native

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "kinetoscope"
RELEASE = "kinetoscope"
NAMESPACE = "kinetoscope"
KUBE_VERSION = "v1.34.0"

MINIMAL: dict[str, Any] = {
    "objectStore": {"endpoint": "https://s3.example.org", "existingSecret": "object-store"}
}
"""The least that must be given: where the object store is and who may use it."""

POD_MONITOR_API = "monitoring.coreos.com/v1/PodMonitor"
PROMETHEUS_RULE_API = "monitoring.coreos.com/v1/PrometheusRule"
TRAINER_APIS = (
    "trainer.kubeflow.org/v1alpha1",
    "trainer.kubeflow.org/v1alpha1/ClusterTrainingRuntime",
    "trainer.kubeflow.org/v1alpha1/TrainingRuntime",
    "trainer.kubeflow.org/v1alpha1/TrainJob",
)
MONITORING_APIS = ("monitoring.coreos.com/v1", POD_MONITOR_API, PROMETHEUS_RULE_API)
ALL_APIS = (*TRAINER_APIS, *MONITORING_APIS)


class ChartRefusedError(Exception):
    """The chart's schema or a template refused the values; the message is Helm's."""


@dataclass(frozen=True)
class Rendering:
    """What one set of values gives.

    Attributes:
        objects: all Kubernetes objects, hooks included, in the order of their templates.
        notes: the text that `helm install` prints.
        values: the chart's defaults with the given values on top.
    """

    objects: tuple[Object, ...]
    notes: str
    values: Mapping[str, Any]

    def kind(self, kind: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """The only object of this kind and name (in this namespace); fails if there is none."""
        found = [
            item
            for item in self.kind(kind)
            if item["metadata"]["name"] == name
            and namespace in (None, item["metadata"].get("namespace"))
        ]
        assert len(found) == 1, f"{len(found)} objects {kind} {name}, of {sorted(self.names())}"
        return found[0]

    def names(self) -> set[tuple[str, str, str]]:
        """(kind, namespace, name) of every object."""
        return {identity(item) for item in self.objects}


def render(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    api_versions: Sequence[str] = ALL_APIS,
    upgrade: bool = False,
) -> Rendering:
    """Render the chart.

    Args:
        values: what a user would put into a values file.
        release: name of the release.
        namespace: where it is installed.
        api_versions: APIs that the cluster has beside Kubernetes' own (group/version/Kind too).
        upgrade: render as `helm upgrade` does.

    Raises:
        ChartRefusedError: the schema or a template refused the values.
    """
    texts = _templates(dict(values or {}), release, namespace, tuple(api_versions), upgrade)
    notes = "".join(text for path, text in texts.items() if path.endswith("NOTES.txt"))
    manifests = [texts[path] for path in sorted(texts) if path.endswith((".yaml", ".yml"))]
    objects = tuple(item for text in manifests for item in parse(text))
    return Rendering(objects, notes, chart().merge_values(dict(values or {})))


def parse(text: str) -> list[Object]:
    """The objects of a manifest. Refuses what Kubernetes' strict decoding refuses: a key twice."""
    return list(_parsed(text))


def identity(item: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


def ci_values() -> dict[str, dict[str, Any]]:
    """The chart's example values by file name without its ending, and the least that renders."""
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    return {"default": MINIMAL} | {path.stem: yaml.safe_load(path.read_text()) for path in files}


# Most templates give the same text for most values. Who changes an object copies it first.
@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[Object, ...]:
    return tuple(item for item in yaml.load_all(text, _StrictLoader) if item)


@functools.cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def _templates(
    values: dict[str, Any],
    release: str,
    namespace: str,
    api_versions: tuple[str, ...],
    upgrade: bool,
) -> dict[str, str]:
    options = {
        "name": release,
        "namespace": namespace,
        "api_versions": list(api_versions),
        "kube_version": KUBE_VERSION,
        "is_install": not upgrade,
        "is_upgrade": upgrade,
    }
    try:
        # Chart.render has no argument for the cluster's APIs, though the engine below it has.
        text = _native.call_string(
            "helm_render", chart()._raw(), json.dumps(values), json.dumps(options)
        )
    except helm_python.HelmError as error:
        raise ChartRefusedError(str(error)) from error
    rendered: dict[str, str] = json.loads(text)
    return rendered


class _StrictLoader(yaml.CSafeLoader):
    """The safe loader; a mapping with the same key twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {sorted(twice)} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
