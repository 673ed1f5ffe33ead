"""Motion score: mean optical flow between neighbouring frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.scorers.base import (
    WORKING_SIDE_PX,
    Score,
    WorkingFrame,
    fit_within,
    mean_score,
)

if TYPE_CHECKING:
    import numpy.typing as npt

# Flow is sought at half the working size: four times as fast, and motion twice as fast is found.
_FLOW_SIDE_PX = WORKING_SIDE_PX // 2
# Farneback's parameters as Open-Sora's camera motion tool has them: pyramid scale, levels, window,
# iterations, polynomial neighbourhood and sigma, flags.
_PYRAMID = (0.5, 3, 15, 3, 5, 1.2, 0)


class MotionScorer:
    """Mean flow between neighbouring frames, in pixels of a frame `WORKING_SIDE_PX` long."""

    score = Score(
        revision=2,
        dtype="float",
        better="neither",
        wording="motion score",
        unit=f"pixels a frame, as if the longer side had {WORKING_SIDE_PX}",
    )

    def __init__(self) -> None:
        self._flows: list[float] = []
        self._before: npt.NDArray[np.uint8] | None = None

    def push(self, frame: WorkingFrame) -> None:
        """See the next frame."""
        gray = fit_within(frame.gray, _FLOW_SIDE_PX)
        self._flows.append(0.0 if self._before is None else flow_magnitude(self._before, gray))
        self._before = gray

    def measure(self, start: int, end: int) -> float:
        """Return the motion; the first frame's flow crosses the cut and has no part."""
        return mean_score(self._flows[start + 1 : end])


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


SCORER = MotionScorer
