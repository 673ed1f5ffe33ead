"""Motion score: mean optical flow between neighbouring frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.prepare.scorers.base import mean_score

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.shots.scenes import Scene

WORKING_SIDE_PX = 256
"""Flow is in pixels per frame of a video whose longer side has this many pixels."""

# Farneback's parameters as Open-Sora's camera motion tool has them: pyramid scale, levels, window,
# iterations, polynomial neighbourhood and sigma, flags.
_PYRAMID = (0.5, 3, 15, 3, 5, 1.2, 0)


class MotionScorer:
    """Mean flow between neighbouring frames of a scene."""

    def __init__(self) -> None:
        self._flows: list[float] = []
        self._before: npt.NDArray[np.uint8] | None = None

    def push(self, gray: npt.NDArray[np.uint8]) -> None:
        """See the next frame."""
        self._flows.append(0.0 if self._before is None else flow_magnitude(self._before, gray))
        self._before = gray

    def score(self, scene: Scene) -> float:
        """Return the scene's motion; the first frame's flow crosses the cut and has no part."""
        return mean_score(self._flows[scene.start + 1 : scene.end])


def flow_magnitude(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> float:
    """Return the mean flow between two grey frames ``H W``, in pixels at `WORKING_SIDE_PX`.

    Dense flow after Farneback (2003). Frames of any size give comparable scores: the flow is scaled
    as if the longer side were `WORKING_SIDE_PX`.
    """
    if np.array_equal(before, after):
        return 0.0
    start = np.zeros((*before.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(before, after, start, *_PYRAMID)
    scale = WORKING_SIDE_PX / max(before.shape)
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean() * scale)
