"""What the pods of the pipeline's tasks get from Kubeflow."""

from __future__ import annotations

from typing import Any

from kinetoscope.kube.config import TaskPodConfig
from kinetoscope.pipelines.cluster.release import (
    CA_PATH,
    CREDENTIALS_PATH,
    ENVIRONMENT_KEYS,
    FILE_KEYS,
    WORKSPACE_PATH,
    Release,
)

# Of the tasks that wait and write: they begin and end a run, and launch its training jobs.
_LIGHT = TaskPodConfig(gpus=0, cpu="50m", memory="1Gi")
_LIGHT_MEMORY_REQUEST = "256Mi"
_USES_GPUS = ("evaluate_vae", "encode_latents", "evaluate_dit")
# The images' user; restricted namespaces want it said.
_USER = 10001
# Evicted and lost pods are retried; what ended for good ends its retries at once. Kubeflow counts
# the duration from the first attempt: a launcher's takes as long as its training.
_RETRIES = 10
_RETRY_EVERY = "15s"
_RETRY_FOR = f"{365 * 24 * 3600}s"
_AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_DO_NOT_DISRUPT = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


def fit_light_task(task: Any, release: Release, name: str) -> None:
    """Give the pod of a task that is no step, or that launches one, what it needs.

    Args:
        task: of the pipeline.
        release: of the chart.
        name: of the task, for the pod's label.
    """
    task.set_container_image(release.control_plane_image)
    task.set_env_variable("KINO_LAUNCHER", "trainjob")
    task.set_env_variable("KINO_RELEASE", release.name)
    _fit(task, release, name, _LIGHT)
    task.set_memory_request(_LIGHT_MEMORY_REQUEST)


def fit_step(task: Any, release: Release, name: str, pod: TaskPodConfig) -> None:
    """Give the pod of a step that does its work in it what it needs.

    Args:
        task: of the pipeline.
        release: of the chart.
        name: of the step.
        pod: what the run's config says.
    """
    task.set_container_image(pod.image or release.trainer_image)
    _fit(task, release, name, pod)


def _fit(task: Any, release: Release, name: str, pod: TaskPodConfig) -> None:
    task.set_retry(
        _RETRIES, backoff_duration=_RETRY_EVERY, backoff_factor=1.0, backoff_max_duration=_RETRY_FOR
    )
    _give_environment(task, release, pod)
    _give_files(task, release, pod)
    _give_resources(task, pod, name)
    _describe(task, release, name, pod)


def _give_environment(task: Any, release: Release, pod: TaskPodConfig) -> None:
    from kfp import kubernetes

    as_files = release.store_keys == FILE_KEYS
    keys = [key for key in ENVIRONMENT_KEYS if as_files or key != "KINO_S3_CREDENTIALS_PATH"]
    kubernetes.use_config_map_as_env(
        task, release.environment, {key: key for key in keys}, optional=True
    )
    if not as_files:
        login = dict(zip(release.store_keys, _AWS_VARIABLES, strict=True))
        kubernetes.use_secret_as_env(task, pod.s3_secret or release.store_secret, login)
    kubernetes.use_field_path_as_env(task, "KINO_POD_UID", "metadata.uid")
    if release.mlflow_secret:
        login = {key: f"MLFLOW_TRACKING_{key.upper()}" for key in release.mlflow_keys}
        kubernetes.use_secret_as_env(task, release.mlflow_secret, login)
    for variable, value in pod.env.items():
        task.set_env_variable(variable, value)


def _give_files(task: Any, release: Release, pod: TaskPodConfig) -> None:
    from kfp import kubernetes

    if release.store_keys == FILE_KEYS:
        secret = pod.s3_secret or release.store_secret
        kubernetes.use_secret_as_volume(task, secret, CREDENTIALS_PATH)
    if release.shm_size:
        kubernetes.empty_dir_mount(
            task,
            "shm",
            "/dev/shm",  # noqa: S108
            medium="Memory",
            size_limit=release.shm_size,
        )
    if release.ca_config_map:
        kubernetes.use_config_map_as_volume(task, release.ca_config_map, CA_PATH)
    for claim, path in pod.claims.items():
        kubernetes.mount_pvc(task, claim, path)
    scratch = pod.scratch
    if scratch.storage_class:
        kubernetes.add_ephemeral_volume(
            task,
            volume_name="workspace",
            mount_path=WORKSPACE_PATH,
            access_modes=["ReadWriteOnce"],
            size=scratch.size,
            storage_class_name=scratch.storage_class,
        )
    else:
        size = scratch.size or release.workspace_size
        kubernetes.empty_dir_mount(task, "workspace", WORKSPACE_PATH, size_limit=size)


def _give_resources(task: Any, pod: TaskPodConfig, name: str) -> None:
    if pod.cpu:
        task.set_cpu_request(pod.cpu)
    if pod.memory:
        task.set_memory_request(pod.memory)
        task.set_memory_limit(pod.memory)
    gpus = pod.gpus if pod.gpus is not None else int(name in _USES_GPUS)
    if gpus:
        task.set_accelerator_type(pod.gpu_resource)
        task.set_accelerator_limit(gpus)


def _describe(task: Any, release: Release, name: str, pod: TaskPodConfig) -> None:
    from kfp import kubernetes

    user = pod.run_as_user or _USER
    kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
    labels = {
        "app.kubernetes.io/name": "kinetoscope",
        "app.kubernetes.io/instance": release.name,
        "app.kubernetes.io/component": "step",
        "kinetoscope.dev/stage": name,
    }
    for key, value in {**pod.labels, **labels}.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in _DO_NOT_DISRUPT.items():
        kubernetes.add_pod_annotation(task, key, value)
    for key, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in pod.tolerations:
        kubernetes.add_toleration_json(task, toleration)
    if pull_secrets := (*release.pull_secrets, *pod.pull_secrets):
        kubernetes.set_image_pull_secrets(task, list(dict.fromkeys(pull_secrets)))
