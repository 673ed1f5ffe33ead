"""Share of a clip's frames that repeat the one before: frozen pictures, doubled frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.scorers.base import Score, WorkingFrame, mean_score

if TYPE_CHECKING:
    import numpy.typing as npt

# Mean difference in levels of 0..255 up to which a picture is the same: another encode of it has
# less, the faintest motion of a small thing more.
_SAME = 0.1
# A difference of a block of pixels beyond this is no noise of encoding.
_LOCAL = 6.0
_BLOCK_PX = 8


class FrozenScorer:
    """Share of frames that show the same picture as the frame before."""

    score = Score(
        revision=1, dtype="float", better="lower", wording="frozen score", unit="share, 0 to 1"
    )

    def __init__(self) -> None:
        self._same: list[float] = []
        self._before: npt.NDArray[np.uint8] | None = None

    def push(self, frame: WorkingFrame) -> None:
        """See the next frame."""
        before, self._before = self._before, frame.gray
        self._same.append(0.0 if before is None else float(_same_picture(before, frame.gray)))

    def measure(self, start: int, end: int) -> float:
        """Return the share; whether the first frame repeats that before the cut has no part."""
        return mean_score(self._same[start + 1 : end])


def _same_picture(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> bool:
    difference = cv2.absdiff(before, after)
    if float(cv2.mean(difference)[0]) > _SAME:
        return False
    height, width = difference.shape
    blocks = (max(1, width // _BLOCK_PX), max(1, height // _BLOCK_PX))
    return float(cv2.resize(difference, blocks, interpolation=cv2.INTER_AREA).max()) <= _LOCAL


SCORER = FrozenScorer
