"""What the pods of a step get on a cluster. Changes no result, so it is no part of a fingerprint.

What is left out stays as the chart has it. Words of Kubernetes' own (tolerations, affinity) are
given as Kubernetes writes them, and checked by its API when a job is submitted.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    field_serializer,
    model_validator,
)

from kinetoscope.core.config_model import Config

GPU_RESOURCE = "nvidia.com/gpu"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_OURS = "kinetoscope.dev/"
# Services, NetworkPolicies, queues and controllers find pods by these.
_RESERVED_LABELS = (
    _OURS,
    "app.kubernetes.io/",
    "jobset.sigs.k8s.io/",
    "batch.kubernetes.io/",
    "trainer.kubeflow.org/",
    "kueue.x-k8s.io/",
)
_RESERVED_VARIABLES = ("PET_", "KINO_")
_OUR_VOLUMES = frozenset({"workspace", "shm", "tmp", "object-store", "object-store-ca"})
_OUR_PATHS = ("/workspace", "/dev", "/tmp", "/var/run", "/etc", "/proc", "/sys")  # noqa: S108

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
CpuQuantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")]
# Kubernetes also takes 512m, which is half a byte.
ByteQuantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
# What Kubernetes can call a volume.
VolumeName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
MountPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9][-A-Za-z0-9._]*)+$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
# The value of a label, too.
QueueName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")]
LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
# Of devices: Kubernetes' own resources have no domain.
ResourceName = Annotated[
    str, Field(pattern=r"^[a-z0-9][-a-z0-9.]*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$")]
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#security-context
_LARGEST_USER = 2**31 - 1
_LONGEST_LABEL = 63


class ScratchConfig(Config):
    """What is mounted at /workspace, for files that a lost pod may take along."""

    size: ByteQuantity | None = None
    """Of a volume that comes and goes with the pod."""
    storage_class: Name | None = None
    """Of that volume; None: the node's own disk."""
    claim: Name | None = None
    """An existing PersistentVolumeClaim instead, in which each pod has a folder of its own."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.claim is not None and (self.size or self.storage_class):
            raise ValueError("give claim, or size and storage_class")
        if self.storage_class is not None and self.size is None:
            raise ValueError("storage_class needs size")
        return self


class TaskPodConfig(Config):
    """What Kubeflow Pipelines can say of a pod; None and empty leave what the chart says."""

    image: Image | None = None
    pull_secrets: tuple[Name, ...] = ()
    """Names of Secrets in the run's namespace."""
    gpus: NonNegativeInt | None = None
    """Of each pod; None: what its work is for, one for each rank of a training, or one for a step
    that runs models; 0 computes on CPUs."""
    gpu_resource: ResourceName = GPU_RESOURCE
    """What the GPUs are called, e.g. ``amd.com/gpu`` or ``nvidia.com/mig-3g.40gb``."""
    cpu: CpuQuantity | None = None
    """Requested; there is no limit, which would only throttle."""
    memory: ByteQuantity | None = None
    """Requested, and the limit."""
    scratch: ScratchConfig = ScratchConfig()
    claims: dict[VolumeName, MountPath] = {}
    """Existing PersistentVolumeClaims and where they are mounted, e.g. ``weights: /weights``."""
    node_selector: dict[LabelKey, LabelValue] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    """Beside the chart's, in Kubernetes' words: ``{key: gpu, operator: Exists}``."""
    run_as_user: Annotated[int, Field(ge=1, le=_LARGEST_USER)] | None = None
    """Number of the user and of the group that own what the pods write; never 0."""
    s3_secret: Name | None = None
    """Secret with the keys of the object store, by the same names as the chart's."""
    labels: dict[LabelKey, LabelValue] = {}
    """Of the pods, e.g. what a PodMonitor selects, or whose cost it is."""
    env: dict[VariableName, str] = {}
    """Further environment variables, e.g. ``NCCL_DEBUG``; never a secret: who may read the pods
    reads them."""

    @model_validator(mode="after")
    def _leaves_others_names_alone(self) -> Self:
        for label in self.labels:
            if label.startswith(_RESERVED_LABELS):
                raise ValueError(f"labels: {label} is set by Kinetoscope or Kubernetes")
        for variable in self.env:
            if variable.startswith(_RESERVED_VARIABLES):
                raise ValueError(f"env: {variable} is set by Kubeflow Trainer or Kinetoscope")
        taken = _OUR_VOLUMES & self.claims.keys()
        if taken:
            raise ValueError(f"claims: {min(taken)} is the name of a volume of the chart's")
        for path in self.claims.values():
            if path.startswith(_OUR_PATHS):
                raise ValueError(f"claims: {path} is where pods have files of their own")
        return self


class PodConfig(TaskPodConfig):
    """The pods of a training job; None and empty leave what the chart's template says."""

    devices: dict[ResourceName, NonNegativeInt] = {}
    """Further devices of each pod, e.g. ``rdma/hca_shared_devices_a: 1``."""
    shm: ByteQuantity | None = None
    """Size of /dev/shm, which counts against the memory limit."""
    affinity: dict[str, Any] = {}
    """In Kubernetes' words: ``{nodeAffinity: {...}}``."""
    topology_spread: tuple[dict[str, Any], ...] = ()
    """In Kubernetes' words; without a labelSelector it means the job's own pods."""
    priority_class: Name | None = None
    scheduler: Name | None = None
    mlflow_secret: Name | None = None
    """Secret with the login of MLflow, where the chart has one."""
    queue: QueueName | None = None
    """Kueue's local queue, which then starts and suspends the job."""
    do_not_disrupt: bool = True
    """Ask autoscalers not to take the node away."""
    gang_minutes: NonNegativeFloat = 15.0
    """How long pods that run may hold their GPUs for others that can't; image pulls and new nodes
    aside. Then all are suspended for a while. 0: for ever, as where a queue starts them."""
    orphan_minutes: PositiveFloat = 15.0
    """Training without a sign of life of its launcher saves and ends after so long."""
    deadline_hours: PositiveFloat | None = None
    """The job saves and fails after so long; None: never."""

    @model_validator(mode="after")
    def _gpus_are_counted_once(self) -> Self:
        if self.gpu_resource in self.devices:
            raise ValueError(f"devices: {self.gpu_resource} is gpu_resource, counted by gpus")
        return self

    def with_own(self, own: PodConfig) -> PodConfig:
        """Return this with what another one says replaced, mappings and lists as a whole."""
        return self.model_copy(update={k: getattr(own, k) for k in own.model_fields_set})


class ClusterConfig(Config):
    """The pods of all steps."""

    training: PodConfig = PodConfig()
    """Of the steps that train, in training jobs."""
    other: TaskPodConfig = TaskPodConfig()
    """Of the others, in the pipeline's own pods, of which Kubeflow can't say all that it can say of
    a training job's."""
    steps: dict[str, PodConfig] = {}
    """Of single steps, by their name in the pipeline, e.g. ``train_dit_1``; what is left out there
    is as in ``training`` or ``other``."""

    @model_validator(mode="after")
    def _kubeflow_can_mount_the_keys(self) -> Self:
        secret = self.other.s3_secret or ""
        taken = secret in ("workspace", "shm", *self.other.claims)
        if taken or "." in secret or len(secret) > _LONGEST_LABEL:
            raise ValueError(
                f"other.s3_secret={secret!r}: Kubeflow calls a volume after it, whose name has no "
                f"dot, at most {_LONGEST_LABEL} characters, and is not workspace, shm or a claim's"
            )
        return self

    @model_validator(mode="after")
    def _other_scratch_comes_and_goes(self) -> Self:
        if self.other.scratch.claim is not None:
            raise ValueError(
                "other.scratch.claim: Kubeflow's pods have no folder of their own in a claim; give "
                "size, with storage_class where the node's own disk is too small"
            )
        return self

    @field_serializer("steps")
    def _as_given(self, steps: dict[str, PodConfig]) -> dict[str, Any]:
        # What was left out must still be so when the config is read again.
        return {k: pod.model_dump(mode="json", exclude_unset=True) for k, pod in steps.items()}

    def pod(self, step: str) -> PodConfig:
        """Return what the pods of a training job get."""
        own = self.steps.get(step)
        return self.training if own is None else self.training.with_own(own)

    def task_pod(self, step: str) -> TaskPodConfig:
        """Return what the pod of a step that does not train gets."""
        own = self.steps.get(step, PodConfig())
        said = own.model_fields_set & TaskPodConfig.model_fields.keys()
        return self.other.model_copy(update={name: getattr(own, name) for name in said})
