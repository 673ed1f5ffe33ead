"""What is kept of each frame to tell where shots begin and end: some 200 bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

CELLS = 8
"""Side of the grid of mean colours."""

_SIDE = 64
_NEIGHBOURS = np.ones((3, 3), np.uint8)


class Features(NamedTuple):
    """The features of ``T`` frames, in levels of 0..255."""

    colors_TC: npt.NDArray[np.uint8]
    """Mean brightness and colour (YCrCb) of the cells of a grid, ``C = CELLS * CELLS * 3``."""
    change_T: npt.NDArray[np.float32]
    """How far a frame is from what small motion makes of the frame before; 0 for the first."""
    detail_T: npt.NDArray[np.float32]
    """Energy of the finest detail: mean square of the brightness's Laplacian, in squared levels."""
    coarse_detail_T: npt.NDArray[np.float32]
    """The same of the frame at 64x64."""


class FeatureRecorder:
    """Takes frames one by one and keeps their features, and the last of them at 64x64."""

    def __init__(self) -> None:
        self._colors, self._scalars = bytearray(), bytearray()
        self._before: _Bounded | None = None

    def push(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, ``H W C`` RGB."""
        small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        now = _Bounded(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), dtype=np.uint8))
        before, self._before = self._before or now, now
        change = max(now.beyond(before), before.beyond(now))
        gray = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        brightness = now.image[..., 0]
        cells = cv2.resize(now.image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        self._colors += np.asarray(cells, dtype=np.uint8).tobytes()
        self._scalars += np.array(
            [change, _detail(gray), _detail(brightness)], np.float32
        ).tobytes()

    def features(self) -> Features:
        """Return the features of all frames taken."""
        colors = np.frombuffer(bytes(self._colors), np.uint8).reshape(-1, CELLS * CELLS * 3)
        scalars = np.frombuffer(bytes(self._scalars), np.float32).reshape(-1, 3)
        return Features(colors, *scalars.T)


def _detail(gray: npt.NDArray[np.uint8]) -> float:
    return float(cv2.norm(cv2.Laplacian(gray, cv2.CV_16S), cv2.NORM_L2SQR) / gray.size)


class _Bounded:
    """An image, and the least and greatest value in the neighbourhood of each of its pixels."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self.image = image
        self.least, self.greatest = cv2.erode(image, _NEIGHBOURS), cv2.dilate(image, _NEIGHBOURS)

    def beyond(self, other: _Bounded) -> float:
        """Return how far, on average, pixels are outside of the other's neighbourhoods.

        What moves by up to a pixel stays inside.
        """
        above = cv2.subtract(self.image, other.greatest)
        below = cv2.subtract(other.least, self.image)
        return (sum(cv2.sumElems(above)) + sum(cv2.sumElems(below))) / self.image.size
