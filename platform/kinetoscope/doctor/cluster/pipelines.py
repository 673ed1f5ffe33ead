"""Kubeflow Pipelines: its version, what its backend retries, and as whom it runs steps."""

from __future__ import annotations

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster import retries, versions
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.doctor.cluster.namespaces import enforced_level
from kinetoscope.doctor.cluster.step_account import CHECK as ACCOUNT_CHECK
from kinetoscope.doctor.cluster.step_account import check_account
from kinetoscope.kube.api_errors import AbsentError, ApiError, ForbiddenError

CHECK = "pipelines"

_HOME = "kubeflow"
_API_LABEL = "app=ml-pipeline"
_SERVICE = "ml-pipeline:8888"


def check_pipelines(context: Context) -> list[Finding]:
    """Ask the Pipelines API for its health, and its Deployment and Argo for their settings."""
    if CHECK in context.options.without:
        return [
            Finding(name, "skipped", "nothing", "left out (--without pipelines)")
            for name in (CHECK, retries.CHECK, ACCOUNT_CHECK)
        ]
    try:
        namespace, deployments = _locate(context)
    except ApiError as error:
        return [failed(CHECK, error)]
    if namespace is None:
        tried = f"looked for a Deployment labelled {_API_LABEL} and for Service {_SERVICE}"
        hint = f"install Kubeflow Pipelines {versions.PIPELINES}, or say --without pipelines"
        return [Finding(CHECK, "bad", tried, "Kubeflow Pipelines is not installed", hint)]
    return [
        _api(context, namespace, deployments),
        _retry(context, namespace),
        check_account(context, deployments),
    ]


def _locate(context: Context) -> tuple[str | None, list[Dict]]:
    """Return the namespace of the Pipelines API and its Deployments, where we may see them."""
    try:
        found = context.ask("/apis/apps/v1/deployments", labelSelector=_API_LABEL)["items"]
    except ForbiddenError:  # not for the whole cluster: look where it usually is
        service = context.find(f"/api/v1/namespaces/{_HOME}/services/ml-pipeline")
        return (_HOME if service else None), []
    if not found:
        return None, []
    return str(found[0]["metadata"]["namespace"]), found


def _api(context: Context, namespace: str, deployments: list[Dict]) -> Finding:
    path = f"/api/v1/namespaces/{namespace}/services/{_SERVICE}/proxy/apis/v2beta1/healthz"
    tried = f"GET {path}"
    try:
        version = str(context.ask(path).get("tag_name", ""))
    except ForbiddenError:  # no right to the proxy: the image's tag must do
        version = ""
    except ApiError as error:
        hint = f"kubectl get pods -n {namespace} -l {_API_LABEL}"
        return Finding(CHECK, "bad", tried, f"it does not answer: {error.detail}", hint)
    tags = [tag for _, tag in versions.image_versions(deployments)]
    level = enforced_level(context)
    return judge_version([version, *tags], tried, restricted=level == "restricted")


def judge_version(told: list[str], tried: str, *, restricted: bool = False) -> Finding:
    """Return the finding on what the API and its image's tag tell of the version.

    Args:
        told: texts that may hold a version, the best one first.
        tried: for the finding.
        restricted: whether the namespace of the runs enforces that.
    """
    # An older API server refuses a platform spec with fields that it does not know; the pods of
    # its steps could not pass there either.
    refused = "it can't run steps as runAsNonRoot"
    if restricted:
        refused += ", which the namespace's PodSecurity level (restricted) asks for"
    for text in told:
        number = versions.parse(text)
        if number is None:
            continue
        if versions.judge(number, versions.PIPELINES) == "old":
            hint = f"upgrade: {versions.PIPELINES} is needed"
            return Finding(CHECK, "bad", tried, f"{text}: {refused}", hint)
        return Finding(CHECK, "ok", tried, text)
    hint = f"{versions.PIPELINES} is needed: look at the tag of the ml-pipeline image"
    found = "it answers, but tells no version"
    return Finding(CHECK, "poor", tried, f"{found}; if older than that, {refused}", hint)


def _retry(context: Context, namespace: str) -> Finding:
    path = f"/api/v1/namespaces/{namespace}/configmaps/{retries.CONFIG_MAP}"
    tried = f"read ConfigMap {namespace}/{retries.CONFIG_MAP}"
    try:
        config_map = context.ask(path)
    except ForbiddenError as error:
        return Finding(retries.CHECK, "skipped", tried, error.detail)
    except AbsentError as error:
        return Finding(retries.CHECK, "poor", tried, error.detail, retries.HINT)
    except ApiError as error:
        return failed(retries.CHECK, error)
    return retries.judge_retries(config_map, tried)
