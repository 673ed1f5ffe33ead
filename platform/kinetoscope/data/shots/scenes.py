"""The scenes of a video: what lies between its cuts, fades and dissolves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kinetoscope.data.shots.cuts import hard_cuts
from kinetoscope.data.shots.features import FeatureRecorder
from kinetoscope.data.shots.transitions import transitions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kinetoscope.data.config import ScenesConfig


class Scene(NamedTuple):
    """Frames ``start`` (inclusive) to ``end`` (exclusive) of a video.

    ``shot`` is the number of the take between two cuts or transitions; a long one is cut into
    several scenes.
    """

    start: int
    end: int
    shot: int = 0


class SceneCutter:
    """Takes the frames of a video one by one and cuts it where its content changes.

    Of each frame some 200 bytes are kept.

    Args:
        config: thresholds.
    """

    def __init__(self, config: ScenesConfig) -> None:
        self._config = config
        self._num_frames = 0
        self._recorder = FeatureRecorder()

    def push(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, ``H W C`` RGB."""
        if self._config.enabled:
            self._recorder.push(frame)
        self._num_frames += 1

    def scenes(self) -> list[Scene]:
        """Return the scenes of all frames taken, in order.

        Frames of a dissolve or fade belong to none. Between scenes of two takes there is a gap
        where there is a transition, and none where there is a hard cut.
        """
        takes = enumerate((start, end) for start, end in self._takes() if start < end)
        return [piece for shot, take in takes for piece in self._pieces(*take, shot)]

    def _takes(self) -> list[tuple[int, int]]:
        """Return the frames between cuts and transitions; a cut too close to either is none."""
        if not self._config.enabled or self._num_frames == 0:
            return [(0, self._num_frames)]
        features = self._recorder.features()
        cuts = hard_cuts(features, self._config)
        ends = [(cut, cut) for cut in cuts] + transitions(features, cuts)
        takes, start = [], 0
        for end, next_start in sorted(ends):
            is_cut = end == next_start
            if is_cut and end - start < self._config.min_scene_frames:
                continue
            takes.append((start, end))
            start = next_start
        return [*takes, (start, self._num_frames)]

    def _pieces(self, start: int, end: int, shot: int) -> list[Scene]:
        longest = self._config.max_scene_frames or end - start
        starts = range(start, end, longest)
        return [Scene(first, min(first + longest, end), shot) for first in starts]
