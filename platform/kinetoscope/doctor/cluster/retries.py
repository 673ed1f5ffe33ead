"""Which pods of a run Argo makes anew: its own defaults, merged beneath what our tasks say.

``workflowDefaults`` of the workflow controller has two places for a retryStrategy. That of
``spec.templateDefaults`` goes beneath every template's own, field by field. That of ``spec``
holds only for templates that have none after that, so for no task that says how often to retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.findings import Finding
from kinetoscope.core.yaml_text.read import parse_cluster_object

if TYPE_CHECKING:
    from kinetoscope.core.findings import State
    from kinetoscope.doctor.cluster.context import Dict

CHECK = "pipelines retry"
CONFIG_MAP = "workflow-controller-configmap"
RECOMMENDED = "{spec: {templateDefaults: {retryStrategy: {limit: 2, retryPolicy: OnError}}}}"
HINT = (
    f"in ConfigMap {CONFIG_MAP} set workflowDefaults to '{RECOMMENDED}', as Pipelines 2.17 has it"
)

# What KFP's compiler makes of set_retry. It can't name a policy.
_OF_OUR_TASKS: Dict = {
    "limit": "{{limit}}",
    "backoff": {"duration": "{{duration}}", "factor": "{{factor}}", "maxDuration": "{{longest}}"},
}
_DELETED = "pods that are deleted (evicted, drained, preempted, off a lost node)"
_KUBELET = "pods that a kubelet ends for want of memory or disk"


class _Policy(NamedTuple):
    state: State
    meaning: str


_POLICIES = {
    # KFP's launcher turns every exit code into 1: nothing can spare those that are final.
    "Always": _Policy("poor", "everything is retried, also what ended for good (exits 2 and 77)"),
    "OnError": _Policy("ok", f"{_DELETED} are retried; exit codes and {_KUBELET} are not"),
    "OnFailure": _Policy("poor", f"{_DELETED} are not retried; exit codes and {_KUBELET} are"),
    "OnTransientError": _Policy(
        "poor", "only what Argo takes for passing is retried, which a deleted pod is not"
    ),
}


def judge_retries(config_map: Dict, tried: str) -> Finding:
    """Return the finding on the retries that the workflow controller's ConfigMap gives.

    Args:
        config_map: as the API returns it.
        tried: for the finding.
    """
    try:
        spec = _default_spec(config_map.get("data") or {})
    except ConfigError as error:
        found = f"Argo can't read its settings: {error.message}"
        return Finding(CHECK, "poor", tried, found, f"mend it; {HINT}")
    beneath = _strategy(_mapping(spec.get("templateDefaults")))
    beside = _strategy(spec)
    task = _judge_policy(merge_retry(beneath or {}, _OF_OUR_TASKS))
    faults = _faults_of_kfp_s_own(beside if beneath is None else beneath)
    told = [f"steps that retry: {task.meaning}", _tell_kfp_s_own(beneath, beside), *faults]
    if beside is not None and beneath is not None:
        told.append("spec.retryStrategy is never used beside that of spec.templateDefaults")
    state: State = "poor" if faults and task.state == "ok" else task.state
    return Finding(CHECK, state, tried, "; ".join(told), "" if state == "ok" else HINT)


def merge_retry(defaults: Dict, own: Dict) -> Dict:
    """Return what a template retries by: its own fields, and beneath them the defaults'."""
    merged = defaults | own
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            merged[key] = merge_retry(defaults[key], own[key])
    return merged


def _default_spec(data: Dict) -> Dict:
    """Return ``workflowDefaults.spec`` of the ConfigMap's data, read as Argo does.

    Raises:
        ConfigError: it is no YAML, or is given in a way that Argo refuses.
    """
    text = data.get("workflowDefaults")
    if "config" in data:  # older installations keep all settings under this key
        if len(data) > 1:
            raise ConfigError("its key config may have no other key beside it")
        return _mapping(_mapping(_read(str(data["config"])).get("workflowDefaults")).get("spec"))
    if text is None:
        return {}
    # Argo pastes the keys together: what has one line stands on the line of its key.
    lines = str(text).strip("\n").split("\n") if "\n" in str(text) else None
    body = f" {text}" if lines is None else "\n  " + "\n  ".join(lines)
    return _mapping(
        _mapping(_read(f"workflowDefaults:{body}\n").get("workflowDefaults")).get("spec")
    )


def _read(text: str) -> Dict:
    return _mapping(parse_cluster_object(text, CONFIG_MAP))


def _mapping(value: Any) -> Dict:
    return value if isinstance(value, dict) else {}


def _strategy(spec: Dict) -> Dict | None:
    found = spec.get("retryStrategy")
    return found if isinstance(found, dict) else None


def _judge_policy(strategy: Dict) -> _Policy:
    expression = strategy.get("expression")
    named = strategy.get("retryPolicy") or ("Always" if expression else "OnFailure")
    policy = _POLICIES.get(str(named))
    if policy is None:
        return _Policy("bad", f"{named} is no retryPolicy: Argo ends them with an error")
    if expression:
        # Whether it is true of a deleted pod, only Argo can tell.
        found = f"{named}, where {expression!r} is true, which the doctor can't tell"
        return _Policy("skipped", found)
    return policy._replace(meaning=f"{named}: {policy.meaning}")


def _tell_kfp_s_own(beneath: Dict | None, beside: Dict | None) -> str:
    """Say what the templates get that no pipeline can speak for."""
    strategy = beside if beneath is None else beneath
    if strategy is None:
        return "KFP's own drivers and DAGs are not retried"
    limit = strategy.get("limit", "no limit")
    return f"KFP's own drivers and DAGs get these defaults alone (limit: {limit})"


def _faults_of_kfp_s_own(strategy: Dict | None) -> list[str]:
    if strategy is None:
        return []
    faults = []
    if strategy.get("limit") is None:
        faults.append("without a limit they are retried for ever")
    backoff = strategy.get("backoff")
    if isinstance(backoff, dict) and not backoff.get("duration"):
        faults.append("with a backoff that has no duration Argo can't retry them")
    if longest := _mapping(backoff).get("maxDuration"):
        faults.append(f"backoff.maxDuration: none is retried {longest} after its first attempt")
    return faults
