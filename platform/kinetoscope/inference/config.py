"""Sizes and requests of generated clips."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from kinetoscope.core.config_model import Config

IMAGE_FPS = 120.0
"""Frame rate that the model is told of a single image (Open-Sora 1.2)."""


class ClipSize(Config):
    """Size of a clip in pixels and frames."""

    num_frames: PositiveInt = 17
    height: PositiveInt = 32
    width: PositiveInt = 32


class ClipRequest(Config):
    """A clip to generate; what is left out is the model's own default."""

    prompt: str
    seed: int = Field(default=0, ge=0)
    """The same request always starts from the same noise."""
    num_frames: PositiveInt | None = None
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    fps: PositiveFloat | None = None
    """The frame rate that the model is told; by default the bundle's, for one frame an image's."""
    num_steps: PositiveInt | None = None
    guidance: float | None = Field(default=None, ge=0)
