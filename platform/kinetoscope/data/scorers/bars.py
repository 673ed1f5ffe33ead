"""Share of the picture that black bars take: letterboxes, pillarboxes and frames around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.scorers.base import Score, WorkingFrame

if TYPE_CHECKING:
    import numpy.typing as npt

# Levels of 0..255 up to which a row or column counts as black: the noise of encoding.
_BLACK = 8
_DECIMALS = 6


class BarsScorer:
    """Share of the picture outside of what is ever lit within a clip."""

    score = Score(
        revision=1, dtype="float", better="lower", wording="bars score", unit="share, 0 to 1"
    )

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.uint8]] = []
        self._columns: list[npt.NDArray[np.uint8]] = []
        self._size: tuple[int, ...] = (1, 1)

    def push(self, frame: WorkingFrame) -> None:
        """See the next frame."""
        self._rows.append(np.packbits(frame.gray.max(axis=1) > _BLACK))
        self._columns.append(np.packbits(frame.gray.max(axis=0) > _BLACK))
        self._size = frame.gray.shape

    def measure(self, start: int, end: int) -> float:
        """Return the share; 0 of a clip that is black throughout."""
        height, width = self._size
        lit = _lit(self._rows[start:end], height) * _lit(self._columns[start:end], width)
        return round(1.0 - lit, _DECIMALS) if lit else 0.0


def _lit(bits: list[npt.NDArray[np.uint8]], count: int) -> float:
    """Return the share between the first and the last of the rows (or columns) that are ever lit.

    Args:
        bits: a bit for each row, of each frame.
        count: of rows.
    """
    lit = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(bits), count=count))
    return float(lit[-1] - lit[0] + 1) / count if len(lit) else 0.0


SCORER = BarsScorer
