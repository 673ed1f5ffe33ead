"""What the chart puts into a namespace of runs: environment, templates, ServiceAccount."""

from __future__ import annotations

from typing import Any

from kinetoscope.core.errors import ConfigError, KinetoscopeError
from kinetoscope.core.findings import Finding
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import AbsentError, ApiError
from kinetoscope.kube.jobs.template import CONTAINER, parse_template

ENVIRONMENT_CHECK, TEMPLATE_CHECK, ACCOUNT_CHECK = (
    "environment",
    "runtime template",
    "training account",
)
PROBE_KEY = "probe-pod.yaml"

_RUNTIME_KEYS = ("training-runtime.yaml", "training-runtime-colossalai.yaml")
_NEEDED_VARIABLES = ("KINO_STORE_URI", "KINO_S3_ENDPOINT", "KINO_METRICS_PORT", "KINO_WORKSPACE")
_FINAL_CODES = {2, 77, 79}
_FREE_CODES = {75, 78}


def check_chart_objects(context: Context) -> list[Finding]:
    """Read the ConfigMaps and the ServiceAccount of the release in the namespace of the runs."""
    return [_environment(context), _templates(context), _account(context)]


def upgrade_hint(context: Context) -> str:
    """Return what brings the chart's objects into the namespace."""
    return (
        f"list namespace {context.namespace} in runNamespaces of the chart's values, then: helm "
        f"upgrade --install {context.cluster.release} (or --release and --namespace of the doctor)"
    )


def read_config_map(context: Context, suffix: str) -> Dict:
    """Return the data of one of the chart's ConfigMaps.

    Raises:
        ApiError: the subclass that fits, e.g. when it is missing.
    """
    name = f"{context.cluster.fullname}-{suffix}"
    found = context.ask(f"/api/v1/namespaces/{context.namespace}/configmaps/{name}")
    data: Dict = found.get("data") or {}
    return data


def _environment(context: Context) -> Finding:
    name = f"{context.cluster.fullname}-environment"
    tried = f"read ConfigMap {name} in {context.namespace}"
    try:
        data = read_config_map(context, "environment")
    except ApiError as error:
        return failed(ENVIRONMENT_CHECK, error, _hint(context, error))
    wanted = list(_NEEDED_VARIABLES)
    if "mlflow" not in context.options.without:
        wanted.append("MLFLOW_TRACKING_URI")
    missing = [variable for variable in wanted if not data.get(variable)]
    if missing:
        found = f"it lacks {', '.join(missing)}"
        hint = f"set objectStore and mlflow in the chart's values; {upgrade_hint(context)}"
        return Finding(ENVIRONMENT_CHECK, "bad", tried, found, hint)
    return Finding(ENVIRONMENT_CHECK, "ok", tried, f"objects go to {data['KINO_STORE_URI']}")


def _templates(context: Context) -> Finding:
    name = f"{context.cluster.fullname}-templates"
    tried = f"read ConfigMap {name} in {context.namespace} and the TrainingRuntimes in it"
    try:
        data = read_config_map(context, "templates")
    except ApiError as error:
        return failed(TEMPLATE_CHECK, error, _hint(context, error))
    wrong = [problem for key in _RUNTIME_KEYS for problem in template_problems(data, key)]
    if not isinstance(_yaml(data.get(PROBE_KEY, "")), dict):
        wrong.append(f"{PROBE_KEY} is missing or no Pod")
    if wrong:
        hint = f"somebody changed or removed it; {upgrade_hint(context)}"
        return Finding(TEMPLATE_CHECK, "bad", tried, "; ".join(wrong), hint)
    return Finding(TEMPLATE_CHECK, "ok", tried, f"{', '.join(_RUNTIME_KEYS)} and {PROBE_KEY} fit")


def template_problems(data: Dict, key: str) -> list[str]:
    """Return what is wrong with a runtime of the templates' ConfigMap, in words.

    Args:
        data: of the ConfigMap.
        key: of the runtime.
    """
    if key not in data:
        return [f"{key} is missing"]
    try:
        template = parse_template(data[key], where=key)
    except KinetoscopeError as error:
        return [error.message]
    jobset = template["spec"]["template"]["spec"]
    job = next(job for job in jobset["replicatedJobs"] if job["name"] == CONTAINER)
    job_spec = job["template"]["spec"]
    pod = job_spec["template"]["spec"]
    problems = [*_shm_problems(pod), *_failure_problems(jobset, job_spec)]
    if pod.get("automountServiceAccountToken") is not False:
        problems.append("training pods would mount a token of the API")
    return [f"{key}: {problem}" for problem in problems]


def _shm_problems(pod: Dict) -> list[str]:
    memory = {v["name"] for v in pod.get("volumes", []) if v.get("emptyDir", {}).get("medium")}
    node = next(c for c in pod["containers"] if c["name"] == CONTAINER)
    mounted = {m["name"] for m in node.get("volumeMounts", []) if m["mountPath"] == "/dev/shm"}  # noqa: S108
    return [] if memory & mounted else ["no memory-backed volume is mounted at /dev/shm"]


def _failure_problems(jobset: Dict, job: Dict) -> list[str]:
    problems = []
    rules = job.get("podFailurePolicy", {}).get("rules", [])
    codes = {code for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    if not codes >= _FINAL_CODES | _FREE_CODES or job.get("backoffLimit") != 0:
        told = ", ".join(map(str, sorted(_FINAL_CODES | _FREE_CODES)))
        problems.append(f"podFailurePolicy and backoffLimit 0 do not tell exit codes {told}")
    actions = {rule.get("action") for rule in jobset.get("failurePolicy", {}).get("rules", [])}
    if not actions >= {"FailJobSet", "RestartJobSetAndIgnoreMaxRestarts"}:
        problems.append("failurePolicy has no rules for final and for free ends")
    if any("ttlSecondsAfterFinished" in spec for spec in (jobset, job)):
        problems.append("ttlSecondsAfterFinished makes finished jobs run again")
    return problems


def _account(context: Context) -> Finding:
    name = f"{context.cluster.fullname}-training"
    tried = f"read ServiceAccount {name} in {context.namespace}"
    path = f"/api/v1/namespaces/{context.namespace}/serviceaccounts/{name}"
    try:
        found = context.ask(path)
    except AbsentError as error:
        return failed(ACCOUNT_CHECK, error, _hint(context, error))
    except ApiError as error:
        return Finding(ACCOUNT_CHECK, "skipped", tried, error.detail)
    if found.get("automountServiceAccountToken") is not False:
        hint = f"set automountServiceAccountToken: false on it; {upgrade_hint(context)}"
        return Finding(ACCOUNT_CHECK, "poor", tried, f"{name} hands out its token", hint)
    return Finding(ACCOUNT_CHECK, "ok", tried, f"{name}, without a token")


def _hint(context: Context, error: ApiError) -> str:
    return upgrade_hint(context) if isinstance(error, AbsentError) else ""


def _yaml(text: str) -> Any:
    try:
        return parse_cluster_object(text, PROBE_KEY)
    except ConfigError:
        return None
