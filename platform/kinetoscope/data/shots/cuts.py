"""Hard cuts: frames that small motion can't have made of the frames before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.config import ScenesConfig
    from kinetoscope.data.shots.features import Features

# Frames on either side whose changes a cut must exceed.
_AROUND = 4
# A flash is at most one frame shorter than this.
_LASTING = 3
# Levels of change that are noise: without them, a still video's flicker would be cuts.
_NOISE = 0.5


def hard_cuts(features: Features, config: ScenesConfig) -> list[int]:
    """Return the first frames of the shots that begin at a hard cut, in order.

    A cut's change exceeds all changes around it, and lasts: where one of the frames after is like
    one of the frames before, it was a flash.
    """
    change = features.change_T.copy()
    for frame in np.flatnonzero(change >= config.min_content_change):
        change[frame] *= _lasting(features.colors_TC, int(frame))
    return [
        int(frame)
        for frame in np.flatnonzero(change >= config.min_content_change)
        if change[frame] >= config.adaptive_threshold * (_around(change, int(frame)) + _NOISE)
    ]


def _lasting(colors_TC: npt.NDArray[np.uint8], frame: int) -> float:
    """Return which share of a frame's difference from the one before is there to stay, 0..1."""
    before = colors_TC[max(0, frame - _LASTING) : frame].astype(np.float32)
    after = colors_TC[frame : frame + _LASTING].astype(np.float32)
    distances = np.abs(before[:, None] - after).mean(axis=2)
    return float(distances.min() / max(distances[-1, 0], 1e-6))


def _around(change_T: npt.NDArray[np.float32], frame: int) -> float:
    """Return the greatest change around a frame."""
    before, after = change_T[max(0, frame - _AROUND) : frame], change_T[frame + 1 :][:_AROUND]
    return float(max(before.max(initial=0.0), after.max(initial=0.0)))
