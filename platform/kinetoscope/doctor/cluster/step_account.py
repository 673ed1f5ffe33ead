"""As whom Pipelines runs steps, and whether the chart gave that account what a launcher needs."""

from __future__ import annotations

from typing import NamedTuple

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.access import binding_name, find_binding, missing_rights
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import ApiError, ForbiddenError

CHECK = "pipelines account"

_ACCOUNT, _MULTI_USER = "DEFAULTPIPELINERUNNERSERVICEACCOUNT", "MULTIUSER"
_DEFAULT = "pipeline-runner"


class Backend(NamedTuple):
    """Where Pipelines runs the steps of runs.

    Attributes:
        namespace: its own, in which all steps run unless users have theirs.
        multi_user: whether they have.
        account: the steps' ServiceAccount.
    """

    namespace: str
    multi_user: bool
    account: str


def check_account(context: Context, deployments: list[Dict]) -> Finding:
    """Compare the ServiceAccount of steps with those that the chart's RoleBinding names.

    Args:
        context: of the examination.
        deployments: of the Pipelines API; empty where we may not see them.
    """
    tried = f"read the environment of the Pipelines API and RoleBinding {binding_name(context)}"
    if not deployments:
        found = "the Deployment of the Pipelines API may not be read with these rights"
        return Finding(CHECK, "skipped", tried, found)
    try:
        backend = _backend(context, deployments[0])
        bound = _accounts(find_binding(context), context.namespace)
        missing = None if backend.account in bound else _missing(context, backend.account)
    except ForbiddenError as error:
        return Finding(CHECK, "skipped", tried, error.detail)
    except ApiError as error:
        return failed(CHECK, error)
    return judge_account(backend, context.namespace, bound, missing, tried)


def judge_account(
    backend: Backend, namespace: str, bound: list[str], missing: list[str] | None, tried: str
) -> Finding:
    """Return the finding on the account of steps.

    Args:
        backend: what Pipelines is set to.
        namespace: of the runs.
        bound: the ServiceAccounts there that the chart gave a launcher's rights to.
        missing: which of these the account of steps lacks; None where that was not found out.
        tried: for the finding.
    """
    account = backend.account
    if not backend.multi_user and backend.namespace != namespace:
        found = f"without users of its own Pipelines runs all steps in {backend.namespace}"
        hint = f"say --namespace {backend.namespace}, and list it in the chart's runNamespaces"
        return Finding(CHECK, "poor", tried, f"{found}, not in {namespace}", hint)
    if account in bound or missing == []:
        return Finding(CHECK, "ok", tried, f"steps run as {namespace}/{account}")
    found = f"steps run as {account}, but the chart's Role is bound to {', '.join(bound) or 'none'}"
    if missing:
        found += f"; missing: {', '.join(missing)}"
    hint = (
        f"launchers may make no TrainJobs: set serviceAccount of {namespace} in the chart's "
        f"runNamespaces to {account}, and helm upgrade"
    )
    return Finding(CHECK, "bad", tried, found, hint)


def _accounts(binding: Dict | None, namespace: str) -> list[str]:
    return [
        str(subject["name"])
        for subject in (binding or {}).get("subjects") or []
        if subject.get("kind") == "ServiceAccount" and subject.get("namespace") == namespace
    ]


def _missing(context: Context, account: str) -> list[str] | None:
    """Return what it lacks, which another RoleBinding may give; None where we may not ask."""
    try:
        return list(map(str, missing_rights(context, account)))
    except ForbiddenError:
        return None


def _backend(context: Context, deployment: Dict) -> Backend:
    namespace = str(deployment["metadata"]["namespace"])
    values: Dict = {}
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        values |= _environment(context, namespace, container)
    multi_user = str(values.get(_MULTI_USER, "")).lower() in ("true", "1", "t")
    account = context.options.service_account or values.get(_ACCOUNT) or _DEFAULT
    return Backend(namespace, multi_user, str(account))


def _environment(context: Context, namespace: str, container: Dict) -> Dict:
    """Return what a container's environment says in words or by ConfigMaps; the words win."""
    values: Dict = {}
    for source in container.get("envFrom") or []:
        if name := (source.get("configMapRef") or {}).get("name"):
            values |= _config_map(context, namespace, name)
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("configMapKeyRef")
        if variable["name"] not in (_ACCOUNT, _MULTI_USER):
            continue
        if reference:
            data = _config_map(context, namespace, reference["name"])
            values[variable["name"]] = data.get(reference["key"], "")
        else:
            values[variable["name"]] = variable.get("value", "")
    return values


def _config_map(context: Context, namespace: str, name: str) -> Dict:
    found = context.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}") or {}
    data: Dict = found.get("data") or {}
    return data
