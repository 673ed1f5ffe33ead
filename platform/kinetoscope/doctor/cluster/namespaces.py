"""The namespace of the runs: is it there, and does it stop a pod that would own its node?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import AbsentError, ApiError, ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECK, ESCALATION_CHECK = "namespace", "pod security"

_ENFORCE = "pod-security.kubernetes.io/enforce"
# The account in whose name a Job's pods are made: admission may exempt it, unlike us.
_JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"

Verdict = Literal["accepted", "refused", "unknown"]


def check_namespace(context: Context) -> list[Finding]:
    """Look at the namespace's label; try a privileged, a root and a modest pod as dry runs."""
    namespace = context.namespace
    try:
        found = context.ask(f"/api/v1/namespaces/{namespace}")
    except AbsentError as error:
        hint = f"kubectl create namespace {namespace}, or name another one with --namespace"
        return [failed(CHECK, error, hint)]
    except ForbiddenError:  # a tenant may use a namespace without being allowed to read it
        found = None
    except ApiError as error:
        return [failed(CHECK, error)]
    label = None if found is None else _label(found)
    return [_state(namespace, found), _escalation(context, label)]


def enforced_level(context: Context) -> str | None:
    """Return the PodSecurity level that the runs' namespace enforces; None: it may not be read."""
    try:
        return _label(context.ask(f"/api/v1/namespaces/{context.namespace}"))
    except ApiError:  # told by the check of the namespace
        return None


def _state(namespace: str, found: Dict | None) -> Finding:
    tried = f"read Namespace {namespace}"
    if found is None:
        return Finding(CHECK, "ok", tried, f"{namespace}; its labels may not be read")
    if found.get("status", {}).get("phase") == "Terminating":
        hint = "wait until it is gone, create it again, and install the chart"
        return Finding(CHECK, "bad", tried, f"{namespace} is being deleted", hint)
    return Finding(CHECK, "ok", tried, f"{namespace} enforces {_label(found) or 'nothing'}")


def _label(namespace: Dict) -> str:
    labels = namespace["metadata"].get("labels") or {}
    return str(labels.get(_ENFORCE, ""))


def _escalation(context: Context, label: str | None) -> Finding:
    tried = (
        "created pods as dry runs: privileged with the node's disk, root, and modest; as "
        "ourselves, and as the controller that makes the pods of TrainJobs where we may"
    )
    try:
        mine = {name: _try_pod(context, name, as_controller=False) for name in _PODS}
        theirs = {name: _try_pod(context, name, as_controller=True) for name in _PODS}
    except ApiError as error:
        return failed(ESCALATION_CHECK, error)
    return judge_pods(context.namespace, mine, theirs, label, tried)


def judge_pods(
    namespace: str,
    mine: Mapping[str, Verdict],
    controllers: Mapping[str, Verdict],
    label: str | None,
    tried: str,
) -> Finding:
    """Return the finding on which pods a namespace accepts.

    Args:
        namespace: its name.
        mine: verdict on each of the pods privileged, root, modest, sent as ourselves.
        controllers: the same, sent as the controller of Jobs.
        label: PodSecurity level that the namespace's label enforces; None where it is not known.
        tried: for the finding.
    """
    hint = (
        f"whoever may create TrainJobs in {namespace} owns its nodes: kubectl label namespace "
        f"{namespace} {_ENFORCE}=restricted --overwrite"
    )

    def finding(state: Literal["ok", "poor", "bad", "skipped"], found: str, hint: str) -> Finding:
        return Finding(ESCALATION_CHECK, state, tried, found, hint)

    for who, verdicts in (("a pod", mine), ("a TrainJob's pod", controllers)):
        if verdicts["privileged"] == "accepted":
            return finding("bad", f"{who} that is privileged and mounts / is accepted", hint)
    if mine["modest"] == "refused":
        allow = "look for an admission policy or a webhook that refuses what restricted allows"
        return finding("bad", "even a pod that keeps to restricted is refused", allow)
    for who, verdicts in (("a pod", mine), ("a TrainJob's pod", controllers)):
        if verdicts["root"] == "accepted":
            return finding("poor", f"{who} that runs as root is accepted", hint)
    if mine["privileged"] == "refused":
        return finding("ok", "privileged and root pods are refused", "")
    if label == "restricted":
        return finding("ok", "not tried: we may not create pods; the label says restricted", "")
    if label is None:
        ask = "let somebody with the right to create pods run the doctor"
        return finding("skipped", "neither the labels nor the right to create pods", ask)
    return finding("bad", f"the label {_ENFORCE} is {label or 'missing'}", hint)


def _try_pod(context: Context, name: str, *, as_controller: bool) -> Verdict:
    """Create a pod as a dry run; a refusal by RBAC is no verdict on the pod."""
    path = f"/api/v1/namespaces/{context.namespace}/pods"
    user = _JOB_CONTROLLER if as_controller else ""
    try:
        context.ask(path, _PODS[name], impersonate=user, dryRun="All")
    except ForbiddenError as error:
        rbac = (
            'cannot create resource "pods"' in error.detail or "cannot impersonate" in error.detail
        )
        if rbac or "exceeded quota" in error.detail:
            return "unknown"
        return "refused"
    except ApiError as error:
        if error.status in (400, 422):  # a policy's webhook may answer so
            return "refused"
        raise
    return "accepted"


def _pod(container: Dict, **spec: object) -> Dict:
    resources = {"cpu": "10m", "memory": "16Mi"}
    body = {
        "name": "node",
        "image": "none",
        "resources": {"requests": resources, "limits": resources},
        **container,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "kino-doctor-"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [body],
            **spec,
        },
    }


_PODS: dict[str, Dict] = {
    "privileged": _pod(
        {
            "securityContext": {"privileged": True, "runAsUser": 0},
            "volumeMounts": [{"name": "node", "mountPath": "/node"}],
        },
        hostPID=True,
        volumes=[{"name": "node", "hostPath": {"path": "/"}}],
    ),
    "root": _pod({"securityContext": {"runAsUser": 0}}),
    "modest": _pod(
        {
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
        },
        securityContext={
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    ),
}
