"""Technical quality of a frame, in [0, 1]: is it sharp, exposed and not flat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.prepare.scorers.base import mean_score

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.shots.scenes import Scene

# Variance of the Laplacian (Pech-Pacheco et al. 2000) at which sharpness is one half: blurred
# frames have some tens, sharp ones hundreds and more.
_HALF_SHARP = 100.0
# Levels of 0..255 at or beyond which a pixel counts as clipped.
_BLACK, _WHITE = 2, 253
# Standard deviation of the levels from which contrast counts as full.
_FULL_CONTRAST = 32.0


class QualityScorer:
    """Mean technical quality of a scene's frames."""

    def __init__(self) -> None:
        self._qualities: list[float] = []

    def push(self, gray: npt.NDArray[np.uint8]) -> None:
        """See the next frame."""
        self._qualities.append(technical_quality(gray))

    def score(self, scene: Scene) -> float:
        """Return the scene's quality."""
        return mean_score(self._qualities[scene.start : scene.end])


def technical_quality(gray: npt.NDArray[np.uint8]) -> float:
    """Score one grey frame ``H W``.

    The geometric mean of three parts in [0, 1], so that one bad part is not made up for:

    * sharpness ``v / (v + 100)`` with ``v`` the variance of the Laplacian,
    * exposure: the share of pixels that are neither black (<= 2) nor white (>= 253),
    * contrast: the standard deviation of the levels over 32, at most 1.

    It knows nothing of content: noise counts as sharp.
    """
    variance = float(cv2.Laplacian(gray, cv2.CV_64F).var())
    sharpness = variance / (variance + _HALF_SHARP)
    exposure = 1.0 - float(((gray <= _BLACK) | (gray >= _WHITE)).mean())
    contrast = min(1.0, float(gray.std()) / _FULL_CONTRAST)
    return float((sharpness * exposure * contrast) ** (1 / 3))
