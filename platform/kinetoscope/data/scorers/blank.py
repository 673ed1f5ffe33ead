"""Share of a clip's frames that show nothing: black, white or of one colour."""

from __future__ import annotations

import numpy as np

from kinetoscope.data.scorers.base import Score, WorkingFrame, mean_score

# Levels of 0..255 between the 1st and the 99th percentile: noise of encoding stays below, a small
# thing on a ground of one colour shows in the extremes.
_FLAT, _EXTREMES = 6, 24


class BlankScorer:
    """Share of blank frames."""

    score = Score(
        revision=1, dtype="float", better="lower", wording="blank score", unit="share, 0 to 1"
    )

    def __init__(self) -> None:
        self._blank: list[float] = []

    def push(self, frame: WorkingFrame) -> None:
        """See the next frame."""
        self._blank.append(float(_is_blank(frame)))

    def measure(self, start: int, end: int) -> float:
        """Return the share."""
        return mean_score(self._blank[start:end])


def _is_blank(frame: WorkingFrame) -> bool:
    gray = frame.gray
    if int(gray.max()) - int(gray.min()) > _EXTREMES:
        return False
    # Colours of one brightness are no blank picture.
    for plane in np.moveaxis(frame.rgb, -1, 0):
        low, high = np.percentile(plane, (1, 99))
        if high - low > _FLAT:
            return False
    return True


SCORER = BlankScorer
