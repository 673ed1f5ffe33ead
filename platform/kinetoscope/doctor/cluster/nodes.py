"""Nodes: ready, with GPUs, tolerated by our pods; and the storage that volumes come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.findings import Finding
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.doctor.cluster.chart_objects import read_config_map
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import ApiError
from kinetoscope.kube.config import GPU_RESOURCE
from kinetoscope.kube.jobs.template import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable

NODES_CHECK, GPU_CHECK, STORAGE_CHECK = "nodes", "gpu nodes", "storage class"

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_KEEPS_OFF = ("NoSchedule", "NoExecute")
_RUNTIME_KEY = "training-runtime.yaml"
_SHOWN = 5


def check_nodes(context: Context) -> list[Finding]:
    """Look at all nodes' conditions, taints and GPUs, and at the StorageClasses."""
    try:
        nodes = context.ask("/api/v1/nodes")["items"]
    except ApiError as error:
        # A tenant may not see nodes; whether pods are placed, the probe and the smoke job tell.
        hint = "let somebody who may list nodes run the doctor"
        found = [Finding(NODES_CHECK, "skipped", str(error.call), error.detail, hint)]
    else:
        tolerations = _tolerations(context)
        found = [judge_nodes(nodes, tolerations)]
        if "gpu" in context.options.without:
            found.append(Finding(GPU_CHECK, "skipped", "nothing", "left out (--without gpu)"))
        else:
            found.append(judge_gpus(nodes, tolerations))
    return [*found, _storage(context)]


def gpu_nodes(nodes: Iterable[Dict]) -> list[Dict]:
    """Return the nodes with GPUs that pods may be placed on."""
    return [node for node in nodes if gpus(node) and _usable(node)]


def gpus(node: Dict) -> int:
    """Return how many GPUs a node has for pods."""
    return int(node.get("status", {}).get("allocatable", {}).get(GPU_RESOURCE, 0))


def judge_nodes(nodes: list[Dict], tolerations: list[Dict]) -> Finding:
    """Return the finding on the nodes' conditions and taints.

    Args:
        nodes: all of the cluster.
        tolerations: of our training pods.
    """
    tried = "listed the nodes: Ready, pressures, taints that training pods do not tolerate"
    wrong = [text for node in nodes if (text := _trouble(node))]
    usable = [node for node in nodes if _usable(node)]
    if not usable:
        hint = "kubectl describe nodes; nothing can run before one is Ready"
        return Finding(NODES_CHECK, "bad", tried, _short(wrong) or "no node", hint)
    tainted = [text for node in usable if (text := _untolerated(node, tolerations))]
    summary = f"{len(usable)} of {len(nodes)} are Ready"
    if len(tainted) == len(usable):
        hint = "add training.tolerations to the chart's values, or remove the taints"
        return Finding(NODES_CHECK, "bad", tried, f"all are tainted: {_short(tainted)}", hint)
    if wrong or tainted:
        hint = (
            "kubectl describe node NAME; training.tolerations in the chart's values lets training "
            "pods onto tainted nodes"
        )
        return Finding(NODES_CHECK, "poor", tried, f"{summary}; {_short(wrong + tainted)}", hint)
    return Finding(NODES_CHECK, "ok", tried, summary)


def judge_gpus(nodes: list[Dict], tolerations: list[Dict]) -> Finding:
    """Return the finding on the GPUs that training pods can get.

    Args:
        nodes: all of the cluster.
        tolerations: of our training pods.
    """
    tried = f"summed up {GPU_RESOURCE} of the nodes' allocatable"
    able = gpu_nodes(nodes)
    if not able:
        hint = (
            "install the GPU operator or the device plugin, add GPU nodes, or say --without gpu "
            "(training runs on CPUs, slowly)"
        )
        return Finding(GPU_CHECK, "bad", tried, "no Ready node offers a GPU", hint)
    open_ = [node for node in able if not _untolerated(node, tolerations)]
    count = sum(gpus(node) for node in able)
    if not open_:
        hint = "add training.tolerations to the chart's values"
        found = f"{count} GPUs, all on tainted nodes: {_untolerated(able[0], tolerations)}"
        return Finding(GPU_CHECK, "bad", tried, found, hint)
    return Finding(GPU_CHECK, "ok", tried, f"{count} GPUs on {len(able)} nodes")


def tolerates(taint: Dict, tolerations: Iterable[Dict]) -> bool:
    """Tell whether one of the tolerations matches a taint (kubernetes.io/docs: Taints)."""
    return any(_matches(taint, toleration) for toleration in tolerations)


def _matches(taint: Dict, toleration: Dict) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def _untolerated(node: Dict, tolerations: list[Dict]) -> str:
    taints = [
        f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
        for taint in node["spec"].get("taints") or []
        if taint["effect"] in _KEEPS_OFF and not tolerates(taint, tolerations)
    ]
    return f"{node['metadata']['name']} has taint {', '.join(taints)}" if taints else ""


def _trouble(node: Dict) -> str:
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
    wrong = [kind for kind in _PRESSURES if conditions.get(kind) == "True"]
    if conditions.get("Ready") != "True":
        wrong.insert(0, "NotReady")
    if node["spec"].get("unschedulable"):
        wrong.append("cordoned")
    return f"{node['metadata']['name']}: {', '.join(wrong)}" if wrong else ""


def _usable(node: Dict) -> bool:
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("unschedulable")


def _short(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _tolerations(context: Context) -> list[Dict]:
    """Return those of the chart's training pods; none where the template can't be read."""
    try:
        text = read_config_map(context, "templates")[_RUNTIME_KEY]
        template: Any = parse_cluster_object(text, _RUNTIME_KEY)
        jobs = template["spec"]["template"]["spec"]["replicatedJobs"]
        pod = next(j for j in jobs if j["name"] == CONTAINER)["template"]["spec"]["template"][
            "spec"
        ]
        return list(pod.get("tolerations") or [])
    except (ApiError, ConfigError, KeyError, TypeError, StopIteration):
        return []


def _storage(context: Context) -> Finding:
    path = "/apis/storage.k8s.io/v1/storageclasses"
    tried = "listed the StorageClasses"
    try:
        classes = context.ask(path)["items"]
    except ApiError as error:
        if error.status != 403:  # noqa: PLR2004 - a tenant may not see them, and needs none
            return failed(STORAGE_CHECK, error)
        return Finding(STORAGE_CHECK, "skipped", tried, error.detail)
    return judge_storage(classes, tried)


def judge_storage(classes: list[Dict], tried: str) -> Finding:
    """Return the finding on the default StorageClass.

    Args:
        classes: all StorageClasses.
        tried: for the finding.
    """
    default = [
        one["metadata"]["name"]
        for one in classes
        if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    if default:
        return Finding(STORAGE_CHECK, "ok", tried, f"the default is {', '.join(default)}")
    names = ", ".join(one["metadata"]["name"] for one in classes) or "none at all"
    hint = "mark one as default, or name one in mlflow.persistence.storageClass of the chart"
    return Finding(STORAGE_CHECK, "poor", tried, f"none is the default: {names}", hint)
