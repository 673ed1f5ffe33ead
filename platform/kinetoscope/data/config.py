"""Configs of the synthetic set and of data preparation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kinetoscope.core.config_model import Config, Effect
from kinetoscope.data.scorers.names import score_names

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
    """Cutting a video at its cuts, fades and dissolves (``data/shots``)."""

    enabled: bool = True
    """Find scenes; or else each video is one, up to ``max_scene_frames``."""
    adaptive_threshold: PositiveFloat = 1.5
    """How many times the change at a cut exceeds the greatest change of the 4 frames before and
    after it."""
    min_content_change: PositiveFloat = 4.0
    """Least mean change of brightness and colour, 0..255, at a cut, beyond what motion makes."""
    min_scene_frames: PositiveInt = 15
    """A cut fewer frames after the cut or transition before it does not count."""
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
    where: tuple[str, ...] = ()
    """Conditions that a clip must meet, as SQL over its columns (``prepare/filters.py``), e.g.
    ``motion > 0.2 and quality >= 0.4``. A clip is dropped by the first that it does not meet."""

    @model_validator(mode="after")
    def _ordered(self) -> FiltersConfig:
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError(
                f"max_frames {self.max_frames} is below min_frames {self.min_frames}: no clip fits"
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

    fps: float | None = Field(default=None, ge=0.1, le=1000, allow_inf_nan=False)
    """Frames per second that every video is taken at; by default each at its own rate."""
    limits: LimitsConfig = LimitsConfig()
    scenes: ScenesConfig = ScenesConfig()
    captions: CaptionsConfig = CaptionsConfig()
    filters: FiltersConfig = FiltersConfig()
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    split: SplitConfig = SplitConfig()
    scores: tuple[str, ...] | None = None
    """What is measured of clips (a module each of ``data/scorers``); by default all. A score that
    comes later is measured alone."""
    conditioning: tuple[str, ...] = ()
    """Scores written into the condition text, in this order."""
    num_workers: Annotated[PositiveInt, Effect.NONE] = 2
    """Processes that decode; 1 decodes in the step's own, where a crash of libav ends the step."""

    @property
    def measured(self) -> tuple[str, ...]:
        """The scores to measure, sorted."""
        return score_names() if self.scores is None else tuple(sorted(self.scores))

    @model_validator(mode="after")
    def _known_scores(self) -> PrepareDataConfig:
        for field, names in (("scores", self.scores or ()), ("conditioning", self.conditioning)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} names a score twice: {list(names)}")
            if unknown := sorted(set(names) - set(score_names())):
                raise ValueError(f"{field} names {unknown}; known are {list(score_names())}")
        if missing := sorted(set(self.conditioning) - set(self.measured)):
            raise ValueError(f"conditioning names {missing}, which scores leaves out")
        return self
