"""A pod as runs have them, which tells what it sees (`kinetoscope.doctor.pod`)."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.findings import Finding
from kinetoscope.core.units import format_seconds
from kinetoscope.core.yaml_text.read import parse_cluster_object
from kinetoscope.doctor.cluster.chart_objects import PROBE_KEY, read_config_map, upgrade_hint
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.doctor.cluster.pod_trouble import Trouble, find_trouble, refusal_hint
from kinetoscope.doctor.pod import CHECKS
from kinetoscope.kube.api_errors import AbsentError, ApiError

CHECK = "probe pod"
PREFIX = "in-cluster "

_VALUES = {
    "object store": (
        "in the chart's values: objectStore.endpoint (KINO_S3_ENDPOINT) and bucket, and the Secret "
        "objectStore.existingSecret in this namespace"
    ),
    "mlflow": "kubectl get pods -A -l app.kubernetes.io/component=mlflow shows the chart's server",
}
_POLL_SECONDS = 0.5
_LAST_LINES = "200"
_LONGEST_SECONDS = 240.0
_ENDED = ("Succeeded", "Failed")


def check_from_inside(context: Context) -> list[Finding]:
    """Run the probe in a pod made from the chart's template; the pod is deleted in any case."""
    try:
        pod = _render(context)
    except ApiError as error:
        hint = upgrade_hint(context) if isinstance(error, AbsentError) else ""
        return [failed(CHECK, error, hint)]
    if pod is None:
        tried = f"read {PROBE_KEY} in ConfigMap {context.cluster.fullname}-templates"
        return [Finding(CHECK, "bad", tried, "missing or no Pod", upgrade_hint(context))]
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{context.namespace}/pods"
    context.tell(f"probe pod {context.namespace}/{name}: what do pods of runs see?")
    started = time.monotonic()
    try:
        context.ask(path, pod)
        ended = _wait(context, f"{path}/{name}")
        if isinstance(ended, Trouble):
            tried = f"created pod {name} in {context.namespace} and waited for it"
            return [Finding(CHECK, "bad", tried, ended.found, ended.hint)]
        text = context.ask_text(f"{path}/{name}/log", tailLines=_LAST_LINES)
    except ApiError as error:
        return [failed(CHECK, error, refusal_hint(error.detail))]
    finally:
        _delete(context, f"{path}/{name}")
    return read_findings(text, name, format_seconds(time.monotonic() - started))


def read_findings(text: str, name: str, took: str) -> list[Finding]:
    """Return what the probe found: the JSON array in the last line of its log.

    Args:
        text: the log.
        name: of the pod.
        took: how long it took, in words.
    """
    tried = f"ran python -m kinetoscope.doctor.pod in pod {name}"
    lines = text.strip().splitlines()
    try:
        inside = [Finding(**row) for row in json.loads(lines[-1])]
    except (IndexError, ValueError, TypeError):
        found = f"no findings in its log: {' / '.join(lines[-3:]) or 'empty'}"
        hint = "is images.controlPlane of the chart's values the image of this version?"
        return [Finding(CHECK, "bad", tried, found, hint)]
    whole = Finding(CHECK, "ok", tried, f"image pulled, Secrets mounted, answered in {took}")
    return [whole, *map(_in_cluster, inside)]


def _in_cluster(finding: Finding) -> Finding:
    """Name a finding as one from inside, and the values of the chart that would mend it."""
    values = _VALUES.get(finding.check, "") if finding.state == "bad" else ""
    hint = f"{finding.hint}; {values}" if values else finding.hint
    return finding._replace(check=PREFIX + finding.check, hint=hint)


def _render(context: Context) -> Dict | None:
    try:
        text = read_config_map(context, "templates").get(PROBE_KEY, "")
        pod: Any = parse_cluster_object(text, PROBE_KEY)
    except ConfigError:
        return None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return None
    pod.setdefault("metadata", {})["name"] = f"{context.cluster.fullname}-doctor-{uuid4().hex[:6]}"
    names = [name for name in CHECKS if name not in context.options.without]
    container = pod["spec"]["containers"][0]
    container["command"] = ["python", "-m", "kinetoscope.doctor.pod", "--only", *names]
    container.pop("args", None)
    return pod


def _wait(context: Context, path: str) -> Trouble | None:
    """Wait until the pod has ended; return what keeps it from it, if anything does."""
    end = time.monotonic() + min(_LONGEST_SECONDS, context.seconds_left())
    last: Trouble | None = None
    since = time.monotonic()
    while time.monotonic() < end:
        pod = context.ask(path)
        if pod["status"].get("phase") in _ENDED:
            reason = pod["status"].get("reason")  # set when the kubelet ended it, not our program
            found = f"{reason}: {pod['status'].get('message', '')}"
            return Trouble(found, "kubectl describe nodes", 0) if reason else None
        trouble = find_trouble(pod, _events(context, path.rpartition("/")[2]))
        if trouble is None or last is None or trouble.hint != last.hint:
            since = time.monotonic()
        last = trouble
        if trouble and time.monotonic() - since >= trouble.patience_seconds:
            return trouble
        time.sleep(_POLL_SECONDS)
    phase = last.found if last else "still not done: kubectl describe pod says why"
    return Trouble(phase, last.hint if last else "raise --timeout-seconds", 0)


def _events(context: Context, name: str) -> list[Dict]:
    path = f"/api/v1/namespaces/{context.namespace}/events"
    try:
        items: list[Dict] = context.ask(path, fieldSelector=f"involvedObject.name={name}")["items"]
    except ApiError:  # the pod's own status still tells most
        return []
    return items


def _delete(context: Context, path: str) -> None:
    try:
        context.ask(path, method="DELETE", gracePeriodSeconds="0")
    except AbsentError:
        return
    except ApiError as error:
        context.tell(f"the probe pod may be left behind: {error.message}")
