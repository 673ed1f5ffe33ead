"""What a request changes in the template's pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.config import GPU_RESOURCE, PodConfig
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.template import JOBSET_LABEL, Manifest, training_container

_DO_NOT_DISRUPT = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
_WORKSPACE, _SHM, _S3, _MLFLOW = "workspace", "shm", "object-store", "MLFLOW_TRACKING_"


def change_pod(pod: Manifest, job: TrainingJob) -> None:
    """Change the template's pod, in place, into one of the job.

    Raises:
        ConfigError: the request names a part that the template's pod has not.
    """
    config = job.pod
    spec, metadata = pod["spec"], pod["metadata"]
    container = training_container(spec)
    metadata["labels"].update(config.labels)
    if config.do_not_disrupt:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **_DO_NOT_DISRUPT}
    # The last lines of a failed rank stay in its pod's status, where we look anyway.
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    if config.image is not None:
        container["image"] = config.image
    if job.grace_seconds is not None:
        spec["terminationGracePeriodSeconds"] = job.grace_seconds
    container["resources"] = _resources(container.get("resources") or {}, job)
    _place(spec, config)
    _spread(spec, config, job.name)
    _mount(spec, container, config, job.name)
    _name_secrets(spec, container, config)
    if config.run_as_user is not None:
        user = config.run_as_user
        own = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
        spec["securityContext"] = {**(spec.get("securityContext") or {}), **own}


def _resources(given: Manifest, job: TrainingJob) -> Manifest:
    """Return requests and limits; devices and memory are the same in both."""
    requests, limits = dict(given.get("requests") or {}), dict(given.get("limits") or {})
    config = job.pod
    devices = {config.gpu_resource: job.gpus_per_node, **config.devices}
    both = {name: str(count) for name, count in devices.items() if count}
    # The chart's GPUs give way to the request's, whatever those are called.
    for name in {GPU_RESOURCE, *devices}:
        requests.pop(name, None)
        limits.pop(name, None)
    if config.memory is not None:
        both["memory"] = config.memory
    if config.cpu is not None:
        requests["cpu"] = config.cpu
        limits.pop("cpu", None)
    both_resources = {"requests": {**requests, **both}, "limits": {**limits, **both}}
    return {key: value for key, value in both_resources.items() if value}


def _place(spec: Manifest, config: PodConfig) -> None:
    replaced = {
        "priorityClassName": config.priority_class,
        "schedulerName": config.scheduler,
        "affinity": config.affinity or None,
    }
    spec.update({key: value for key, value in replaced.items() if value is not None})
    if config.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **config.node_selector}
    if config.tolerations:
        spec["tolerations"] = [*(spec.get("tolerations") or []), *config.tolerations]
    if config.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.pull_secrets]


def _spread(spec: Manifest, config: PodConfig, name: str) -> None:
    own = {"labelSelector": {"matchLabels": {JOBSET_LABEL: name}}}
    if config.topology_spread:
        spec["topologySpreadConstraints"] = [{**own, **one} for one in config.topology_spread]


def _mount(spec: Manifest, container: Manifest, config: PodConfig, name: str) -> None:
    if config.shm is not None:
        _volume(spec, _SHM)["emptyDir"] = {"medium": "Memory", "sizeLimit": config.shm}
    for claim, path in config.claims.items():
        volume = {"name": claim, "persistentVolumeClaim": {"claimName": claim}}
        spec.setdefault("volumes", []).append(volume)
        container.setdefault("volumeMounts", []).append({"name": claim, "mountPath": path})
    scratch = config.scratch
    if scratch.claim is not None:
        _replace(_volume(spec, _WORKSPACE), persistentVolumeClaim={"claimName": scratch.claim})
        mount = _named(container.get("volumeMounts") or [], _WORKSPACE, "mount")
        # Each node has the same folder again after a restart, where it finds what to sweep.
        mount["subPathExpr"] = f"{name}/node-$(JOB_COMPLETION_INDEX)"
    elif scratch.storage_class is not None:
        spec_of_claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": scratch.storage_class,
            "resources": {"requests": {"storage": scratch.size}},
        }
        template = {"volumeClaimTemplate": {"spec": spec_of_claim}}
        _replace(_volume(spec, _WORKSPACE), ephemeral=template)
    elif scratch.size is not None:
        _volume(spec, _WORKSPACE)["emptyDir"] = {"sizeLimit": scratch.size}


def _name_secrets(spec: Manifest, container: Manifest, config: PodConfig) -> None:
    if config.s3_secret is not None:
        for source in _volume(spec, _S3)["projected"]["sources"]:
            source["secret"]["name"] = config.s3_secret
    if config.mlflow_secret is not None:
        logins = list(_logins(container))
        if not logins:
            raise ConfigError(
                "mlflow_secret is given, but the chart's training pods log in to no MLflow",
                hint="set mlflow.auth.existingSecret in the chart's values, then: helm upgrade",
            )
        for login in logins:
            login["name"] = config.mlflow_secret


def _logins(container: Manifest) -> Iterator[Manifest]:
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference is not None and variable["name"].startswith(_MLFLOW):
            yield reference


def _volume(spec: Manifest, name: str) -> Manifest:
    return _named(spec.get("volumes") or [], name, "volume")


def _replace(volume: Manifest, **source: Any) -> None:
    name = volume["name"]
    volume.clear()
    volume.update(name=name, **source)


def _named(items: list[Manifest], name: str, what: str) -> Manifest:
    for item in items:
        if item["name"] == name:
            return item
    raise ConfigError(
        f"the chart's training pod has no {what} {name!r}",
        hint="helm upgrade with this version's chart",
    )
