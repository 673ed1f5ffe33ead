"""What a scorer is: it sees a video's frames once, and then scores spans of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

WORKING_SIDE_PX = 256
"""Scorers see frames whose longer side has at most this many pixels."""

_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Score:
    """What a score is called, and how it is to be read.

    Attributes:
        revision: raised when equal frames give another value than before: clips are scored anew.
        dtype: "float", or "int" for counts and classes.
        better: which values are better; "neither" where that is a matter of taste.
        wording: what a condition text calls it: ``motion score: 3.2.``
        unit: of its values, in a few words.
    """

    revision: int
    dtype: Literal["float", "int"]
    better: Literal["higher", "lower", "neither"]
    wording: str
    unit: str


class WorkingFrame(NamedTuple):
    """A frame at the working size, as it is shown."""

    rgb: npt.NDArray[np.uint8]
    """``H W C``."""
    gray: npt.NDArray[np.uint8]
    """``H W``."""


class Scorer(Protocol):
    """Measures one thing of a video. One is made for each video."""

    score: ClassVar[Score]

    def push(self, frame: WorkingFrame) -> None:
        """See the next frame."""
        ...

    def measure(self, start: int, end: int) -> float:
        """Return the score of frames ``start`` to ``end - 1``, which have all been seen."""
        ...


def fit_within(image: npt.NDArray[np.uint8], side_px: int) -> npt.NDArray[np.uint8]:
    """Return an image ``H W`` or ``H W C`` whose longer side has at most so many pixels.

    Shrinking averages areas; what is smaller stays as it is.
    """
    height, width = image.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def mean_score(values: Sequence[float]) -> float:
    """Return the mean to six decimals, so that equal videos have equal scores; 0 of nothing."""
    return round(float(np.mean(values)), _DECIMALS) if values else 0.0
