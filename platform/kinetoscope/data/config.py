"""Configs of the synthetic set and of data preparation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kinetoscope.core.config_model import Config, Effect

ScoreName = Literal["motion", "quality"]

CameraMotion = Literal[
    "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out", "static"
]


class SynthConfig(Config):
    """A procedural set of captioned clips: one moving shape on a dark ground."""

    num_clips: PositiveInt = 960
    num_frames: int = Field(default=17, ge=2)
    size_px: int = Field(default=32, ge=16, multiple_of=2)
    """Height and width; even, since the files are yuv420p."""
    fps: PositiveInt = 8
    seed: NonNegativeInt = 0
    held_out: int = Field(default=6, ge=0, le=30)
    """Combinations of shape, colour and motion that are never written."""


class LimitsConfig(Config):
    """What a source video may be at most; anything beyond is quarantined, not decoded further."""

    min_frames: PositiveInt = 5
    max_frames: PositiveInt = 100_000
    max_side_px: PositiveInt = 8192
    max_pixels: PositiveInt = 4096 * 4096
    max_duration_seconds: PositiveFloat = 3600.0
    max_file_bytes: PositiveInt = 16 * 2**30
    timeout_seconds: PositiveFloat = 600.0
    """Longest time that one file may take; a decoder that hangs is killed."""


class ScenesConfig(Config):
    """Cutting a video at its scene changes (PySceneDetect's adaptive detector)."""

    enabled: bool = True
    adaptive_threshold: PositiveFloat = 3.0
    """How many times the change at a cut exceeds the mean change around it."""
    min_content_change: NonNegativeFloat = 15.0
    """Least mean change of hue, saturation and value, 0..255, at a cut."""
    min_scene_frames: PositiveInt = 15
    max_scene_frames: PositiveInt | None = None
    """Cut longer scenes into pieces of at most this many frames."""


class CaptionsConfig(Config):
    """The captions that lie beside the videos, and what stands in where there is none."""

    missing: Literal["filename", "drop", "empty"] = "filename"
    min_matched: float = Field(default=0.5, ge=0, le=1)
    """Least share of the videos that must have a caption where there are lists of captions."""
    clean: bool = False
    """Clean captions, and later prompts, of links, markup and advertising, in lower case
    (``data/text/cleaning.py``). A caption of which nothing is left is missing."""


class FiltersConfig(Config):
    """Which clips are kept; ``None`` means no limit."""

    min_frames: PositiveInt = 17
    max_frames: PositiveInt | None = None
    min_side_px: PositiveInt = 16
    min_motion: NonNegativeFloat = 0.0
    max_motion: PositiveFloat | None = None
    min_quality: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> FiltersConfig:
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError(
                f"max_frames {self.max_frames} is below min_frames {self.min_frames}: no clip fits"
            )
        if self.max_motion is not None and self.max_motion < self.min_motion:
            raise ValueError(
                f"max_motion {self.max_motion} is below min_motion {self.min_motion}: no clip fits"
            )
        return self


class NearDuplicatesConfig(Config):
    """Grouping of clips that show the same thing, so that a split can't tear them apart."""

    enabled: bool = True
    max_distance: float = Field(default=0.5, gt=0, lt=2)
    """Largest distance of two clips in a group: how much they differ where they differ most, in
    units of the pictures' contrast (``duplicates/compare.py``).

    Other encodes and sizes measured up to 0.22, most crops up to 0.45, and the same place with
    another object of a seventh of the width above 0.5.
    """


class SplitConfig(Config):
    """Train and held-out clips, by group."""

    heldout_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of the clips; met as nearly as whole groups allow."""


class PrepareDataConfig(Config):
    """From videos to a clip table."""

    limits: LimitsConfig = LimitsConfig()
    scenes: ScenesConfig = ScenesConfig()
    captions: CaptionsConfig = CaptionsConfig()
    filters: FiltersConfig = FiltersConfig()
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    split: SplitConfig = SplitConfig()
    conditioning: tuple[ScoreName, ...] = ()
    """Scores written into the condition text, in this order."""
    num_workers: Annotated[PositiveInt, Effect.NONE] = 2
    """Processes that decode; 1 decodes in the step's own, where a crash of libav ends the step."""

    @model_validator(mode="after")
    def _distinct_scores(self) -> PrepareDataConfig:
        if len(set(self.conditioning)) != len(self.conditioning):
            raise ValueError(f"conditioning names a score twice: {list(self.conditioning)}")
        return self
