"""RunConfig: one value that describes a whole run, composed of the areas' own configs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from kinetoscope.config.feasibility import problems
from kinetoscope.core.config_model import Config
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.evaluation.config import (
    DiTEvaluation,
    ModelsConfig,
    Registration,
    VAEEvaluation,
)
from kinetoscope.steps.contract import RuntimeConfig
from kinetoscope.training.dit.config import DiTStage, LatentCacheConfig
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.vae.config import SpatialVAEStage, VAEStage


class RuntimesConfig(Config):
    """Processes and threads of the steps; changes no result."""

    training: RuntimeConfig = RuntimeConfig()
    """The ``train_*`` steps; ``num_processes`` is the number of ranks (GPUs)."""
    other: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _other_is_single(self) -> Self:
        if self.other.num_processes != 1:
            raise ValueError(
                f"other.num_processes={self.other.num_processes}: only training runs on more than 1"
            )
        return self


class RunConfig(Config):
    """A whole run, from raw videos to a registered model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")
    seed: int = Field(default=42, ge=0)
    models: ModelsConfig
    prepare_data: PrepareDataConfig = PrepareDataConfig()
    train_spatial_vae: SpatialVAEStage | None = None
    """None: the frame VAE's weights come from ``spatial_weights``."""
    spatial_weights: str | None = None
    """Safetensors file with a pretrained frame VAE (diffusers' names)."""
    train_vae: tuple[VAEStage, ...] = Field(min_length=1)
    evaluate_vae: VAEEvaluation = VAEEvaluation()
    encode_latents: LatentCacheConfig = LatentCacheConfig()
    train_dit: tuple[DiTStage, ...] = Field(min_length=1)
    evaluate_dit: DiTEvaluation = DiTEvaluation()
    register_model: Registration = Registration()
    runtimes: RuntimesConfig = RuntimesConfig()

    @model_validator(mode="after")
    def _spatial_vae_has_one_origin(self) -> Self:
        if (self.train_spatial_vae is None) == (self.spatial_weights is None):
            given = "both are" if self.spatial_weights else "neither is"
            raise ValueError(
                f"exactly one of train_spatial_vae and spatial_weights is needed; {given} given"
            )
        return self

    @model_validator(mode="after")
    def _ranks_divide_steps(self) -> Self:
        ranks = self.runtimes.training.num_processes
        for path, loop, sharing in self._loops():
            if ranks % sharing:
                raise ValueError(
                    f"{path}.sequence_parallel={sharing} must divide "
                    f"runtimes.training.num_processes={ranks}"
                )
            count = loop.micro_batches_per_step
            if count % (ranks // sharing):
                valid = [n * sharing for n in range(1, count + 1) if count % n == 0]
                over = f" over {path}.sequence_parallel={sharing}" if sharing > 1 else ""
                raise ValueError(
                    f"runtimes.training.num_processes={ranks}{over} must divide "
                    f"{path}.loop.micro_batches_per_step={count}: one of {valid}"
                )
        return self

    @model_validator(mode="after")
    def _is_feasible(self) -> Self:
        found = list(problems(self))
        if found:
            raise ValueError("; ".join(found))
        return self

    def _loops(self) -> Iterator[tuple[str, TrainLoopConfig, int]]:
        """Yield path and loop of each training step, and how many ranks share a sample in it."""
        if self.train_spatial_vae is not None:
            yield "train_spatial_vae", self.train_spatial_vae.loop, 1
        for index, stage in enumerate(self.train_vae):
            yield f"train_vae.{index}", stage.loop, 1
        for index, dit_stage in enumerate(self.train_dit):
            yield f"train_dit.{index}", dit_stage.loop, dit_stage.sequence_parallel
