"""What a scorer is: it sees a video's frames once, and then scores its scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kinetoscope.data.shots.scenes import Scene

_DECIMALS = 6


class Scorer(Protocol):
    """Measures one thing of a video."""

    def push(self, gray: npt.NDArray[np.uint8]) -> None:
        """See the next frame: grey, ``H W``, at the working size."""
        ...

    def score(self, scene: Scene) -> float:
        """Return the score of a scene whose frames have all been seen."""
        ...


def mean_score(values: Sequence[float]) -> float:
    """Return the mean to six decimals, so that equal videos have equal scores; 0 of nothing."""
    return round(float(np.mean(values)), _DECIMALS) if values else 0.0
