"""Kubeflow Pipelines: its version, and whether its backend retries lost pods."""

from __future__ import annotations

from typing import Any

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.findings import Finding
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.doctor.cluster import versions
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import AbsentError, ApiError, ForbiddenError

CHECK, RETRY_CHECK = "pipelines", "pipelines retry"

_HOME = "kubeflow"
_API_LABEL = "app=ml-pipeline"
_SERVICE = "ml-pipeline:8888"
_CONTROLLER_CONFIG = "workflow-controller-configmap"
# OnFailure, Argo's default, leaves out what the nodes do: eviction, lost nodes, deleted pods.
_POLICIES = ("Always", "OnError")
_RETRY_HINT = (
    "pods that are evicted or lose their node are not retried: in ConfigMap "
    f"{_CONTROLLER_CONFIG} set workflowDefaults to 'spec: {{retryStrategy: {{limit: 2, "
    "retryPolicy: Always}}'"
)


def check_pipelines(context: Context) -> list[Finding]:
    """Ask the Pipelines API for its health, and the workflow controller for its retry policy."""
    if CHECK in context.options.without:
        return [
            Finding(name, "skipped", "nothing", "left out (--without pipelines)")
            for name in (CHECK, RETRY_CHECK)
        ]
    try:
        namespace, tags = _locate(context)
    except ApiError as error:
        return [failed(CHECK, error)]
    if namespace is None:
        tried = f"looked for a Deployment labelled {_API_LABEL} and for Service {_SERVICE}"
        hint = "install Kubeflow Pipelines >= 2.15, or say --without pipelines"
        return [Finding(CHECK, "bad", tried, "Kubeflow Pipelines is not installed", hint)]
    return [_api(context, namespace, tags), _retry(context, namespace)]


def _locate(context: Context) -> tuple[str | None, list[str]]:
    """Return the namespace of the Pipelines API and the tags of its images."""
    try:
        found = context.ask("/apis/apps/v1/deployments", labelSelector=_API_LABEL)["items"]
    except ForbiddenError:  # not for the whole cluster: look where it usually is
        service = context.find(f"/api/v1/namespaces/{_HOME}/services/ml-pipeline")
        return (_HOME if service else None), []
    if not found:
        return None, []
    return str(found[0]["metadata"]["namespace"]), [t for _, t in versions.image_versions(found)]


def _api(context: Context, namespace: str, tags: list[str]) -> Finding:
    path = f"/api/v1/namespaces/{namespace}/services/{_SERVICE}/proxy/apis/v2beta1/healthz"
    tried = f"GET {path}"
    try:
        version = str(context.ask(path).get("tag_name", ""))
    except ForbiddenError:  # no right to the proxy: the image's tag must do
        version = ""
    except ApiError as error:
        hint = f"kubectl get pods -n {namespace} -l {_API_LABEL}"
        return Finding(CHECK, "bad", tried, f"it does not answer: {error.detail}", hint)
    return judge_version([version, *tags], tried)


def judge_version(told: list[str], tried: str) -> Finding:
    """Return the finding on what the API and its image's tag tell of the version.

    Args:
        told: texts that may hold a version, the best one first.
        tried: for the finding.
    """
    for text in told:
        number = versions.parse(text)
        if number is None:
            continue
        if versions.judge(number, versions.PIPELINES) == "old":
            return Finding(CHECK, "bad", tried, text, f"upgrade: {versions.PIPELINES} is needed")
        return Finding(CHECK, "ok", tried, text)
    hint = f"{versions.PIPELINES} is needed: look at the tag of the ml-pipeline image"
    return Finding(CHECK, "poor", tried, "it answers, but tells no version", hint)


def _retry(context: Context, namespace: str) -> Finding:
    path = f"/api/v1/namespaces/{namespace}/configmaps/{_CONTROLLER_CONFIG}"
    tried = f"read ConfigMap {namespace}/{_CONTROLLER_CONFIG}"
    try:
        config_map = context.ask(path)
    except ForbiddenError as error:
        return Finding(RETRY_CHECK, "skipped", tried, error.detail)
    except AbsentError as error:
        return Finding(RETRY_CHECK, "poor", tried, error.detail, _RETRY_HINT)
    except ApiError as error:
        return failed(RETRY_CHECK, error)
    policies = retry_policies(config_map)
    if any(policy in _POLICIES for policy in policies):
        return Finding(RETRY_CHECK, "ok", tried, f"retryPolicy {', '.join(policies)}")
    found = f"retryPolicy is {', '.join(policies)}" if policies else "no default retryPolicy"
    return Finding(RETRY_CHECK, "poor", tried, found, _RETRY_HINT)


def retry_policies(config_map: Dict) -> list[str]:
    """Return the retry policies that the workflow controller's ConfigMap gives by default."""
    data = config_map.get("data") or {}
    # Older installations keep all settings under one key.
    defaults = data.get("workflowDefaults") or _mapping(data.get("config")).get("workflowDefaults")
    spec = _mapping(defaults).get("spec")
    strategies = [_mapping(spec), _mapping(_mapping(spec).get("templateDefaults"))]
    found = [_mapping(at.get("retryStrategy")).get("retryPolicy") for at in strategies]
    return [str(policy) for policy in found if policy]


def _mapping(value: Any) -> Dict:
    """Return a mapping that may be given as YAML; anything else gives an empty one."""
    if isinstance(value, str):
        try:
            value = parse_cluster_object(value, "the ConfigMap")
        except ConfigError:
            return {}
    return value if isinstance(value, dict) else {}
