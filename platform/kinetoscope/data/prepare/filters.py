"""Which clips are worth training on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kinetoscope.data.config import FiltersConfig
    from kinetoscope.data.prepare.analysis import SceneAnalysis, VideoAnalysis

DropReason = Literal[
    "exact_duplicate",
    "no_caption",
    "too_few_frames",
    "too_many_frames",
    "too_small",
    "too_still",
    "too_much_motion",
    "low_quality",
]


def drop_reason(
    video: VideoAnalysis, scene: SceneAnalysis, filters: FiltersConfig
) -> DropReason | None:
    """Return the first filter that a clip fails, or None when it passes all."""
    most_frames, most_motion = filters.max_frames, filters.max_motion
    failures: dict[DropReason, bool] = {
        "too_few_frames": scene.num_frames < filters.min_frames,
        "too_many_frames": most_frames is not None and scene.num_frames > most_frames,
        "too_small": min(video.height, video.width) < filters.min_side_px,
        "too_still": scene.motion < filters.min_motion,
        "too_much_motion": most_motion is not None and scene.motion > most_motion,
        "low_quality": scene.quality < filters.min_quality,
    }
    return next((reason for reason, failed in failures.items() if failed), None)
