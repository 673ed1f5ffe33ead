"""The models that generate, and sizes and requests of generated clips."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kinetoscope.core.config_model import Config
from kinetoscope.data.config import CameraMotion
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.models.agreement import check_models_agree
from kinetoscope.models.choice import (
    AnyTransformer,
    AnyVideoAutoencoder,
    default_transformer,
    default_video_autoencoder,
)
from kinetoscope.models.config import PrecisionSetting
from kinetoscope.models.text.config import SeededTableConfig, TextEncoderConfig

IMAGE_FPS = 120.0
"""Frame rate that the model is told of a single image (Open-Sora 1.2)."""


class ClipSize(Config):
    """Size of a clip in pixels and frames."""

    num_frames: PositiveInt = 17
    height: PositiveInt = 32
    width: PositiveInt = 32


class ModelsConfig(Config):
    """The models of a run, and how they generate."""

    vae: AnyVideoAutoencoder = Field(default_factory=default_video_autoencoder)
    dit: AnyTransformer = Field(default_factory=default_transformer)
    text_encoder: TextEncoderConfig = SeededTableConfig()
    flow: RectifiedFlowConfig = RectifiedFlowConfig()
    sampler: SamplerConfig = SamplerConfig()
    sample_size: ClipSize = ClipSize()
    """What is generated when nothing else is asked for."""
    precision: PrecisionSetting = "auto"
    """Of generation and evaluation: bf16, tf32 or fp32; auto is bf16 on GPUs and fp32 on CPUs."""
    sample_fps: PositiveFloat | None = None
    """Frames per second of what is generated; by default those that most training clips have."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        check_models_agree(self.vae, self.dit, self.text_encoder, names=("vae", "dit"))
        return self


class GenerationConfig(ModelsConfig):
    """All that turns a prompt into a clip."""

    conditioning: tuple[str, ...] = ()
    """Names of the scores that training captions carry (prepare_data's own list)."""
    clean_captions: bool = False
    """Whether the training captions were cleaned (prepare_data's own setting)."""


class ClipRequest(Config):
    """A clip to generate; what is left out is the model's own default.

    ``requests.request_from_prompt`` makes one from a prompt with segments and a JSON suffix; here
    every text is taken as it is.
    """

    prompt: str
    later_prompts: dict[PositiveInt, str] = {}
    """By the loop from which on they hold."""
    seed: int = Field(default=0, ge=0)
    """The same request always starts from the same noise."""
    num_frames: PositiveInt | None = None
    """Of one loop."""
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    fps: PositiveFloat | None = None
    """The frame rate that the model is told; by default the bundle's, for one frame an image's."""
    num_steps: PositiveInt | None = None
    guidance: NonNegativeFloat | None = None
    aesthetic: Annotated[float, Field(ge=0, le=10)] | None = None
    """Aesthetic score that the model is told; by default the prompt's own, then the bundle's."""
    motion: NonNegativeFloat | None = None
    """Motion score that the model is told, likewise."""
    camera_motion: CameraMotion | None = None
    """Motion of the camera that the model is told; by default the prompt's own."""
    references: tuple[str, ...] = ()
    """Local image and video files that the clip takes frames from."""
    mask_strategy: str = ""
    """Which frames from which reference (``data/text/mask_strategy.py``); by default the first
    frame of the only one starts the clip."""
    loops: PositiveInt = 1
    """Clips that are generated one after the other, each continuing the one before."""
    condition_frames: PositiveInt | None = None
    """Frames of the clip before that the next begins with; by default one piece of the VAE."""
    condition_edit: float = Field(default=0.0, ge=0, le=1)
    """How freely these frames may change in the next clip: 0 keeps them."""

    def prompt_of(self, loop: int) -> str:
        """Return the prompt of a loop."""
        starts = [start for start in self.later_prompts if start <= loop]
        return self.later_prompts[max(starts)] if starts else self.prompt
