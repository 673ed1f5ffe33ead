"""RunConfig: one value that describes a whole run, composed of the areas' own configs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.plan.config import BucketsConfig, FrameSize, PlanConfig
from kinetoscope.evaluation.config import DiTEvaluation, Registration, VAEEvaluation
from kinetoscope.inference.config import ModelsConfig
from kinetoscope.kube.config import ClusterConfig, TaskPodConfig
from kinetoscope.models.config import multiples
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.steps.contract import RuntimeConfig
from kinetoscope.training.dit.config import DiTStage, LatentCacheConfig
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.vae.config import SpatialVAEStage, VAEStage

OTHER_STEPS = ("prepare_data", "evaluate_vae", "encode_latents", "evaluate_dit", "register_model")
"""Steps that do not train; they run in the pipeline's own pods."""


class RuntimesConfig(Config):
    """Processes and threads of the steps; changes no result."""

    training: RuntimeConfig = RuntimeConfig()
    """The ``train_*`` steps; ``num_processes`` is the number of ranks (GPUs) of each node."""
    other: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _other_is_single(self) -> Self:
        for name in ("num_nodes", "num_processes"):
            value = getattr(self.other, name)
            if value != 1:
                raise ValueError(f"other.{name}={value}: only training runs on more than 1")
        return self


class Stage(NamedTuple):
    """A training stage, whatever it trains.

    Attributes:
        path: of its config, e.g. ``train_dit.0``.
        plan: of its batches.
        loop: of its training.
        sequence_parallel: ranks that share a sample.
        pixel_multiple: heights and widths must be multiples of these pixels.
    """

    path: str
    plan: PlanConfig
    loop: TrainLoopConfig
    sequence_parallel: int
    pixel_multiple: tuple[int, int]

    @property
    def step(self) -> str:
        """Name of its step in the pipeline, e.g. ``train_dit_1``."""
        name, _, index = self.path.partition(".")
        return f"{name}_{int(index) + 1}" if index else name


class RunConfig(Config):
    """A whole run, from raw videos to a registered model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")
    seed: int = Field(default=42, ge=0)
    models: ModelsConfig
    prepare_data: PrepareDataConfig = PrepareDataConfig()
    train_spatial_vae: SpatialVAEStage | None = None
    """None: the spatial VAE's weights come from ``spatial_weights``."""
    spatial_weights: Annotated[str | None, Effect.FILES] = None
    """Safetensors file with a pretrained spatial VAE (diffusers' names)."""
    train_vae: tuple[VAEStage, ...] = Field(min_length=1)
    evaluate_vae: VAEEvaluation = VAEEvaluation()
    encode_latents: LatentCacheConfig = LatentCacheConfig()
    train_dit: tuple[DiTStage, ...] = Field(min_length=1)
    evaluate_dit: DiTEvaluation = DiTEvaluation()
    register_model: Registration = Registration()
    runtimes: RuntimesConfig = RuntimesConfig()
    cluster: ClusterConfig = ClusterConfig()
    """The pods of the steps, where these run on a cluster; changes no result."""

    @model_validator(mode="after")
    def _spatial_vae_has_one_origin(self) -> Self:
        if (self.train_spatial_vae is None) == (self.spatial_weights is None):
            given = "both are" if self.spatial_weights else "neither is"
            raise ValueError(
                f"exactly one of train_spatial_vae and spatial_weights is needed; {given} given"
            )
        return self

    @model_validator(mode="after")
    def _stages_train_the_vae(self) -> Self:
        if not isinstance(self.models.vae, VideoVAEConfig):
            raise ValueError(
                f"models.vae.kind={self.models.vae.kind!r}: the stages of train_vae train the kind "
                f"{VideoVAEConfig().kind!r} alone"
            )
        return self

    @model_validator(mode="after")
    def _ranks_divide_steps(self) -> Self:
        runtime = self.runtimes.training
        ranks, per_node = runtime.num_ranks, f"num_processes={runtime.num_processes}"
        nodes = f"num_nodes={runtime.num_nodes} x " if runtime.num_nodes > 1 else ""
        given = f"runtimes.training.{nodes}{per_node}"
        for stage in self.stages():
            sharing = stage.sequence_parallel
            if ranks % sharing:
                raise ValueError(f"{stage.path}.sequence_parallel={sharing} must divide {given}")
            count = stage.loop.micro_batches_per_step
            if count % (ranks // sharing):
                valid = [n * sharing for n in range(1, count + 1) if count % n == 0]
                over = f" over {stage.path}.sequence_parallel={sharing}" if sharing > 1 else ""
                raise ValueError(
                    f"{given}{over} must divide "
                    f"{stage.path}.loop.micro_batches_per_step={count}: one of {valid}"
                )
        return self

    @model_validator(mode="after")
    def _is_feasible(self) -> Self:
        found = [
            *self._sizes_off_the_latents(),
            *self._lengths_no_clip_has(),
            *self._stages_beyond_the_transformer(),
            *self._gates_no_score_passes(),
            *self._losses_without_weights(),
            *self._pods_of_no_step(),
            *self._pods_with_too_few_gpus(),
        ]
        if found:
            raise ValueError("; ".join(dict.fromkeys(found)))
        return self

    @property
    def video_vae(self) -> VideoVAEConfig:
        """The VAE, of the kind that the stages of ``train_vae`` train."""
        assert isinstance(self.models.vae, VideoVAEConfig)
        return self.models.vae

    def stages(self) -> Iterator[Stage]:
        """Yield the training stages, in the order of the pipeline."""
        latent, patch = self.models.vae.pixel_multiple, self.models.dit.pixel_multiple
        spatial = self.train_spatial_vae
        if spatial is not None:
            yield Stage("train_spatial_vae", spatial.plan, spatial.loop, 1, latent)
        for index, vae in enumerate(self.train_vae):
            yield Stage(f"train_vae.{index}", vae.plan, vae.loop, 1, latent)
        for index, dit in enumerate(self.train_dit):
            multiple = patch(self.models.vae)
            path = f"train_dit.{index}"
            yield Stage(path, dit.plan, dit.loop, dit.sequence_parallel, multiple)

    def _sizes_off_the_latents(self) -> Iterator[str]:
        """Yield the sizes that the models can't represent."""
        rows, columns = self.models.vae.pixel_multiple
        for path, height, width in self._sizes():
            if height % rows or width % columns:
                yield (
                    f"{path}: {height}x{width} pixels; a latent of models.vae stands for "
                    f"{rows}x{columns} of them, so the sides must be {multiples(rows, columns)}"
                )
        for stage in self.stages():
            rows, columns = stage.pixel_multiple
            for path, height, width in _planned_sizes(stage):
                whole = height % rows == width % columns == 0
                if isinstance(stage.plan, BucketsConfig) and not whole:
                    yield (
                        f"{path}: {height}x{width} pixels; models.vae and models.dit.patch_size "
                        f"make patches of {rows}x{columns} pixels, and training wants whole ones"
                    )

    def _stages_beyond_the_transformer(self) -> Iterator[str]:
        for index, stage in enumerate(self.train_dit):
            for told in stage.misfits(self.models.dit):
                yield f"train_dit.{index}: {told}"

    def _gates_no_score_passes(self) -> Iterator[str]:
        for index, gate in enumerate(self.register_model.gates):
            if gate.metric.startswith("adherence.") and not self.evaluate_dit.measures_adherence:
                yield (
                    f"register_model.gates.{index}: {gate.metric} can't be passed while "
                    "evaluate_dit.adherence is not measured"
                )

    def _losses_without_weights(self) -> Iterator[str]:
        losses = {f"train_vae.{index}.loss": vae.loss for index, vae in enumerate(self.train_vae)}
        if self.train_spatial_vae is not None:
            losses["train_spatial_vae.loss"] = self.train_spatial_vae.loss
        for path, loss in losses.items():
            if loss.perceptual_weight and loss.perceptual_weights_path is None:
                yield (
                    f"{path}.perceptual_weight={loss.perceptual_weight} needs the file "
                    f"perceptual_weights_path beside it; 0 measures no LPIPS"
                )

    def _pods_of_no_step(self) -> Iterator[str]:
        training = [stage.step for stage in self.stages()]
        for name, pod in sorted(self.cluster.steps.items()):
            if name not in (*training, *OTHER_STEPS):
                steps = [*training, *OTHER_STEPS]
                yield f"cluster.steps.{name}: no step of this run; these are: {steps}"
            elif name not in training:
                beyond = sorted(pod.model_fields_set - TaskPodConfig.model_fields.keys())
                for key in beyond:
                    yield (
                        f"cluster.steps.{name}.{key}: Kubeflow can't say that of a step's own pod; "
                        f"it can of a training job's, which are: {training}"
                    )
                if pod.scratch.claim is not None:
                    yield f"cluster.steps.{name}.scratch.claim: only training jobs can have one"

    def _pods_with_too_few_gpus(self) -> Iterator[str]:
        ranks = self.runtimes.training.num_processes
        for stage in self.stages():
            gpus = self.cluster.pod(stage.step).gpus
            if gpus and gpus < ranks:
                own = self.cluster.steps.get(stage.step)
                of_step = own is not None and "gpus" in own.model_fields_set
                path = f"cluster.steps.{stage.step}" if of_step else "cluster.training"
                yield (
                    f"{path}.gpus={gpus}: each of runtimes.training.num_processes={ranks} ranks "
                    f"needs one; 0 trains on CPUs, null gives each its own"
                )

    def _sizes(self) -> Iterator[tuple[str, int, int]]:
        for stage in self.stages():
            yield from _planned_sizes(stage)
        sizes = {
            "models.sample_size": self.models.sample_size,
            "evaluate_vae.size": self.evaluate_vae.size,
        }
        for index, size in enumerate(self.evaluate_dit.rf_loss.sizes):
            sizes[f"evaluate_dit.rf_loss.sizes.{index}"] = size
        for path, size in sizes.items():
            yield path, size.height, size.width

    def _lengths_no_clip_has(self) -> Iterator[str]:
        scenes = self.prepare_data.scenes
        limits = {
            "prepare_data.filters.max_frames": self.prepare_data.filters.max_frames,
            "prepare_data.scenes.max_scene_frames": (
                scenes.max_scene_frames if scenes.enabled else None
            ),
        }
        for limit_path, limit in limits.items():
            for path, num_frames in map(_shortest_length, self.stages()):
                if limit is not None and num_frames > limit:
                    yield (
                        f"{path} needs clips of {num_frames} frames, but {limit_path}={limit} "
                        f"leaves none so long: it can never give a batch"
                    )


def _planned_sizes(stage: Stage) -> Iterator[tuple[str, int, int]]:
    """Yield path, height and width of the sizes that a stage's plan names in pixels."""
    if not isinstance(stage.plan, BucketsConfig):
        yield f"{stage.path}.plan", stage.plan.height, stage.plan.width
        return
    for number, bucket in enumerate(stage.plan.buckets):
        if isinstance(bucket.resolution, FrameSize):
            path = f"{stage.path}.plan.buckets.{number}.resolution"
            yield path, bucket.resolution.height, bucket.resolution.width


def _shortest_length(stage: Stage) -> tuple[str, int]:
    """Return the path of a stage's lengths and the frames that a clip must have at least."""
    if isinstance(stage.plan, BucketsConfig):
        return f"{stage.path}.plan.buckets", min(b.num_frames for b in stage.plan.buckets)
    return f"{stage.path}.plan.num_frames", stage.plan.num_frames
