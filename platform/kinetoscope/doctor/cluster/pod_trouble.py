"""Why a pod does not start, from its status and its events: pure functions on the API's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinetoscope.doctor.cluster.context import Dict

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS = ("CreateContainerConfigError",)
_START_REASONS = ("CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume")
_LONGEST_TEXT = 400

_IMAGE_HINT = (
    "can the nodes reach the registry, does images.registry/repository/tag of the chart's values "
    "name an image that is there, does images.pullSecrets name a Secret of this namespace?"
)
_OBJECT_HINT = (
    "create the Secret or ConfigMap, with that key, in the namespace of the runs: "
    "objectStore.existingSecret and secretKeys, objectStore.ca, mlflow.auth in the chart's values"
)
_SCHEDULING_HINT = "free or add nodes, or lower requests; kubectl describe nodes shows what is left"
_REFUSALS = (
    (
        "violates PodSecurity",
        "the chart's template was changed: helm upgrade; its pods keep to restricted",
    ),
    ("exceeded quota", "raise the namespace's ResourceQuota, or wait until other runs end"),
    ("must specify", "the ResourceQuota asks for requests: set quota.enabled or a LimitRange"),
    ("minimum cpu usage", "the namespace's LimitRange is too tight for the chart's pods"),
    ("maximum", "the namespace's LimitRange is too tight for the chart's pods"),
    ("denied the request", "an admission webhook refuses the chart's pods: ask who runs it"),
)


class Trouble(NamedTuple):
    """Why a pod does not start.

    Attributes:
        found: what Kubernetes says.
        hint: what to do.
        patience_seconds: how long it may be so before it counts; it may pass by itself.
    """

    found: str
    hint: str
    patience_seconds: float


def find_trouble(pod: Dict, events: Iterable[Dict]) -> Trouble | None:
    """Return why a pod does not start; None while nothing is wrong.

    Args:
        pod: as the API gives it.
        events: those of the pod, in any order.
    """
    status = pod.get("status", {})
    if status.get("phase") not in (None, "Pending"):
        return None
    return _from_containers(status) or _from_events(events) or _from_conditions(status)


def refusal_hint(detail: str) -> str:
    """Return what to do about a pod that the API server refused to create, or an empty string.

    Args:
        detail: the server's words.
    """
    return next((hint for text, hint in _REFUSALS if text in detail), "")


def _from_containers(status: Dict) -> Trouble | None:
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for one in statuses:
        waiting = one.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        found = _words(f"{reason}: {waiting.get('message', '')}")
        if reason in _IMAGE_REASONS:
            return Trouble(f"{one.get('image', '')}: {found}", _IMAGE_HINT, 20.0)
        if reason in _CONFIG_REASONS:
            return Trouble(found, _OBJECT_HINT, 5.0)
        if reason in _START_REASONS:
            return Trouble(found, "the message says what the container runtime lacks", 10.0)
    return None


def _from_events(events: Iterable[Dict]) -> Trouble | None:
    for event in events:
        if event.get("reason") in _MOUNT_EVENTS:
            return Trouble(
                _words(f"{event['reason']}: {event.get('message', '')}"), _OBJECT_HINT, 5.0
            )
    return None


def _from_conditions(status: Dict) -> Trouble | None:
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            found = _words(f"not scheduled: {condition.get('message', '')}")
            return Trouble(found, _SCHEDULING_HINT, 45.0)
    return None


def _words(text: str) -> str:
    return " ".join(text.split()).removesuffix(":")[:_LONGEST_TEXT]
