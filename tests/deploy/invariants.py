"""What holds for every set of objects that we ship, chart and kustomize, whatever the values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pod_security import hardening_violations, restricted_violations
from pods import SERVERS, PodTemplate, pods_of, runtime_pod, templates_in
from references import dangling_references

Object = dict[str, Any]

KINDS = {
    "ClusterTrainingRuntime",
    "ConfigMap",
    "Deployment",
    "Job",
    "LimitRange",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "PodMonitor",
    "PrometheusRule",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
}
COMPONENTS = {"doctor", "launcher", "mlflow", "monitoring", "object-store", "training"}
SELECTOR_LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")}
LABELS = SELECTOR_LABELS | {"app.kubernetes.io/part-of", "app.kubernetes.io/managed-by"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_IMAGE = re.compile(r"\S+/\S+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")
_LOGIN_IN_URI = re.compile(r"://[^/\s@]*:[^/\s@]+@")


@dataclass(frozen=True)
class Shipped:
    """Objects that are applied together.

    Attributes:
        objects: with their namespaces set.
        external: names of Secrets, ConfigMaps, claims and ServiceAccounts that the user provides.
        run_namespaces: where runs are started.
        owner_labels: labels for team, project and cost that everything must carry.
    """

    objects: Sequence[Object]
    external: frozenset[str]
    run_namespaces: Sequence[str]
    owner_labels: Mapping[str, str]

    @functools.cached_property
    def pods(self) -> list[PodTemplate]:
        return pods_of(self.objects)

    def of_kind(self, *kinds: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] in kinds]


def violations(shipped: Shipped) -> list[str]:
    """What is wrong, one sentence each, with the object's name."""
    return [text for rule in RULES for text in rule(shipped)]


def _kinds_and_names(shipped: Shipped) -> Iterator[str]:
    seen = set()
    for item in shipped.objects:
        kind, name = item["kind"], item["metadata"]["name"]
        key = (kind, item["metadata"].get("namespace"), name)
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        if kind not in KINDS:
            yield f"{kind} {name}: a kind that we do not ship"
        if len(name) > 63 or not _NAME.fullmatch(name):
            yield f"{kind} {name}: not a DNS label of at most 63 characters"


def _labels(shipped: Shipped) -> Iterator[str]:
    holders = [(f"{o['kind']} {o['metadata']['name']}", o["metadata"]) for o in shipped.objects]
    holders += [(f"pod of {pod}", pod.metadata) for pod in shipped.pods]
    for where, metadata in holders:
        labels = metadata.get("labels") or {}
        if not labels.keys() >= LABELS:
            yield f"{where}: lacks labels {sorted(LABELS - labels.keys())}"
        elif labels["app.kubernetes.io/component"] not in COMPONENTS:
            yield f"{where}: unknown component {labels['app.kubernetes.io/component']}"
        if not shipped.owner_labels.items() <= labels.items():
            yield f"{where}: lacks {dict(shipped.owner_labels)}"
        if any(len(value) > 63 for value in labels.values()):
            yield f"{where}: a label value longer than 63"
    yield from (f"pod of {pod}: has helm.sh/chart" for pod in shipped.pods if _versioned(pod))


def _versioned(pod: PodTemplate) -> bool:
    """Whether a new chart version would change the pod's labels; the helm test pod may."""
    return "helm.sh/chart" in pod.labels and pod.owner["kind"] != "Pod"


def _only_strings(shipped: Shipped) -> Iterator[str]:
    """Unquoted, a release called 123 or a tag 1.0 becomes a number, which the API refuses."""
    for item in [*shipped.objects, *templates_in(shipped.objects)]:
        where = f"{item['kind']} {item['metadata']['name']}"
        maps = [item["metadata"].get("labels"), item["metadata"].get("annotations")]
        if item["kind"] in ("ConfigMap", "Secret"):
            maps += [item.get("data"), item.get("stringData")]
        for key, value in ((k, v) for one in maps for k, v in (one or {}).items()):
            if not isinstance(value, str):
                yield f"{where}: {key} is not a string: {value!r}"
    for pod in shipped.pods:
        named = {**pod.labels, **(pod.metadata.get("annotations") or {})}
        named |= {
            v["name"]: v.get("value", "") for c in pod.containers() for v in c.get("env") or []
        }
        for key, value in named.items():
            if not isinstance(value, str):
                yield f"pod of {pod}: {key} is not a string: {value!r}"


def _selectors(shipped: Shipped) -> Iterator[str]:
    for item in shipped.objects:
        kind, spec = item["kind"], item.get("spec") or {}
        where = f"{kind} {item['metadata']['name']}"
        if kind in SERVERS:
            pods = [pod for pod in shipped.pods if pod.owner is item]
            chosen = spec["selector"]["matchLabels"]
            if set(chosen) != SELECTOR_LABELS:
                yield f"{where}: selects by {sorted(chosen)}"
        elif kind in ("Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
            pods = [p for p in shipped.pods if p.namespace == item["metadata"]["namespace"]]
            chosen = _selected(kind, spec)
        else:
            continue
        if not chosen:
            yield f"{where}: selects everything"
        elif "helm.sh/chart" in chosen:
            yield f"{where}: selects a chart version"
        elif chosen.get("app.kubernetes.io/component") == "step":
            if set(chosen) != SELECTOR_LABELS:  # no pods of the chart's
                yield f"{where}: selects steps by {sorted(chosen)}"
        elif not any(chosen.items() <= pod.labels.items() for pod in pods):
            yield f"{where}: selects no pod of ours with {chosen}"


def _selected(kind: str, spec: Mapping[str, Any]) -> dict[str, str]:
    if kind == "Service":
        return dict(spec.get("selector") or {})
    selector = spec.get("podSelector" if kind == "NetworkPolicy" else "selector") or {}
    return dict(selector.get("matchLabels") or {})


def _pod_security(shipped: Shipped) -> Iterator[str]:
    for pod in shipped.pods:
        for text in restricted_violations(pod.spec) + hardening_violations(pod.spec):
            yield f"pod of {pod}: {text}"
    for account in shipped.of_kind("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']}: automounts its token"


def _containers(shipped: Shipped) -> Iterator[str]:
    for pod in shipped.pods:
        for container in pod.containers():
            where = f"container {container['name']} of {pod}"
            image = container["image"]
            if not _IMAGE.fullmatch(image) or image.endswith(":latest"):
                yield f"{where}: image {image} is not pinned to a registry and a tag or digest"
            resources = container.get("resources") or {}
            # A TrainJob gives its own resources to the container `node`.
            if container["name"] != "node" and not (
                {"cpu", "memory"} <= set(resources.get("requests") or {})
                and "memory" in (resources.get("limits") or {})
            ):
                yield f"{where}: lacks requests or the memory limit: {resources}"
        if pod.owner["kind"] in SERVERS:
            for container in pod.containers(servers_only=True):
                for probe in ("readinessProbe", "livenessProbe"):
                    if probe not in container:
                        yield f"container {container['name']} of {pod}: no {probe}"


def _secrets(shipped: Shipped) -> Iterator[str]:
    for pod in shipped.pods:
        for container in pod.containers():
            where = f"container {container['name']} of {pod}"
            for variable in container.get("env") or []:
                if _SECRET_NAME.search(variable["name"]) and variable.get("value"):
                    yield f"{where}: {variable['name']} is written into the spec"
            for word in [*(container.get("command") or []), *(container.get("args") or [])]:
                if "$(" in word and _SECRET_NAME.search(word.upper()):
                    yield f"{where}: a secret on the command line: {word}"
    for item in shipped.objects:
        for text in _strings(item):
            if _LOGIN_IN_URI.search(text):
                yield f"{item['kind']} {item['metadata']['name']}: a login inside a URI"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _rbac(shipped: Shipped) -> Iterator[str]:
    for role in shipped.of_kind("Role"):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if any("*" in word for word in words):
                yield f"Role {role['metadata']['name']}: a wildcard in {rule}"
            forbidden = {"secrets", "pods/exec", "escalate", "bind", "impersonate"} & words
            if forbidden:
                yield f"Role {role['metadata']['name']}: grants {sorted(forbidden)}"


def _budgets(shipped: Shipped) -> Iterator[str]:
    for budget in shipped.of_kind("PodDisruptionBudget"):
        where = f"PodDisruptionBudget {budget['metadata']['name']}"
        chosen = _selected("PodDisruptionBudget", budget["spec"])
        for pod in shipped.pods:
            if not chosen.items() <= pod.labels.items():
                continue
            if pod.owner["kind"] != "Deployment":
                yield f"{where}: holds {pod}"
            elif pod.owner["spec"].get("replicas", 1) < 2:
                yield f"{where}: {pod} has one replica, so no node can be drained"


def _volumes(shipped: Shipped) -> Iterator[str]:
    for pod in shipped.pods:
        if pod.owner["kind"] != "Deployment" or pod.owner["spec"].get("replicas", 1) != 1:
            continue
        claims = [v for v in pod.spec.get("volumes") or [] if "persistentVolumeClaim" in v]
        if claims and pod.owner["spec"].get("strategy", {}).get("type") != "Recreate":
            yield f"{pod}: a rolling update would wait for the volume of the old pod for ever"


def _network_policies(shipped: Shipped) -> Iterator[str]:
    for policy in shipped.of_kind("NetworkPolicy"):
        spec, where = policy["spec"], f"NetworkPolicy {policy['metadata']['name']}"
        types = spec.get("policyTypes") or []
        if not types:
            yield f"{where}: policyTypes is not set"
        for direction, key in (("Ingress", "ingress"), ("Egress", "egress")):
            if (key in spec) != (direction in types):
                yield f"{where}: {key} and policyTypes {types} do not agree"
        if "Egress" in types and not any(_opens_dns(rule) for rule in spec.get("egress") or []):
            yield f"{where}: closes egress without DNS"


def _opens_dns(rule: Mapping[str, Any]) -> bool:
    if not rule.get("ports"):
        return True
    ports = {(port.get("protocol", "TCP"), port.get("port")) for port in rule["ports"]}
    return {("UDP", 53), ("TCP", 53)} <= ports


def _runtimes(shipped: Shipped) -> Iterator[str]:
    runtimes = [*shipped.objects, *templates_in(shipped.objects)]
    for runtime in (item for item in runtimes if item["kind"].endswith("TrainingRuntime")):
        template = runtime["spec"]["template"]["spec"]
        where = f"{runtime['kind']} {runtime['metadata']['name']}"
        if "ttlSecondsAfterFinished" in str(template):
            yield f"{where}: with a TTL Trainer runs a finished job again"
        if runtime_pod(runtime)["spec"].get("restartPolicy") != "Never":
            yield f"{where}: restartPolicy is not Never"


def _references(shipped: Shipped) -> Iterator[str]:
    yield from dangling_references(
        shipped.objects, shipped.pods, shipped.external, shipped.run_namespaces
    )


RULES: Sequence[Callable[[Shipped], Iterator[str]]] = (
    _kinds_and_names,
    _labels,
    _only_strings,
    _selectors,
    _pod_security,
    _containers,
    _secrets,
    _rbac,
    _budgets,
    _volumes,
    _network_policies,
    _runtimes,
    _references,
)
