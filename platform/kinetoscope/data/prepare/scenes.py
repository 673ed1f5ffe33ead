"""Scene cuts at exact frames (PySceneDetect's adaptive detector)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.config import ScenesConfig

# The detector wants times, but lengths given in frames are compared in frames.
_ANY_FPS = 25.0


class Scene(NamedTuple):
    """Frames ``start`` (inclusive) to ``end`` (exclusive) of a video.

    ``shot`` is the number of the take between two cuts; a long one is cut into several scenes.
    """

    start: int
    end: int
    shot: int = 0


class SceneCutter:
    """Takes the frames of a video one by one and cuts it where its content changes.

    Args:
        config: thresholds.
    """

    def __init__(self, config: ScenesConfig) -> None:
        self._config = config
        self._cuts: list[int] = []
        self._num_frames = 0
        self._detector = AdaptiveDetector(
            adaptive_threshold=config.adaptive_threshold,
            min_content_val=config.min_content_change,
            min_scene_len=config.min_scene_frames,
        )

    def push(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, ``H W C`` RGB."""
        if self._config.enabled:
            timecode = FrameTimecode(self._num_frames, fps=_ANY_FPS)
            bgr = np.ascontiguousarray(frame[..., ::-1])
            self._cuts.extend(cut.frame_num for cut in self._detector.process_frame(timecode, bgr))
        self._num_frames += 1

    def scenes(self) -> list[Scene]:
        """Return the scenes of all frames taken, in order, without gaps."""
        edges = [0, *sorted(set(self._cuts)), self._num_frames]
        spans = [(a, b) for a, b in pairwise(edges) if b > a]
        scenes = [Scene(a, b, shot) for shot, (a, b) in enumerate(spans)]
        return [piece for scene in scenes for piece in self._pieces(scene)]

    def _pieces(self, scene: Scene) -> list[Scene]:
        longest = self._config.max_scene_frames or scene.end - scene.start
        starts = range(scene.start, scene.end, longest)
        return [Scene(start, min(start + longest, scene.end), scene.shot) for start in starts]
