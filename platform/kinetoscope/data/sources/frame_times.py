"""When each frame of a video is shown, so that any is reached without reading those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Presentation times in the stream's own units, which rise from frame to frame.

    Most videos have frames at equal distances: their times follow from the first and the distance.

    Attributes:
        first: time of frame 0.
        step: distance of frames; frame ``i`` is at ``round(first + i * step)``.
        listed: the times, where they follow from no such rule; else empty.
    """

    first: int
    step: float
    listed: tuple[int, ...] = ()

    def window(self, start: int, num_frames: int) -> list[int]:
        """Return the times of ``num_frames`` frames from ``start`` on."""
        if self.listed:
            return list(self.listed[start : start + num_frames])
        return [
            round(self.first + number * self.step) for number in range(start, start + num_frames)
        ]


def frame_times(times: Sequence[int | None], step_hint: float = 0.0) -> FrameTimes | None:
    """Return the times of a video's frames in a short form.

    Args:
        times: of all frames in the order in which they are decoded.
        step_hint: distance of frames by the declared frame rate; 0 where there is none.

    Returns:
        None where frames can't be told apart by their times.
    """
    known = [time for time in times if time is not None]
    if not known or len(known) != len(times):
        return None
    array = np.asarray(known, dtype=np.int64)
    if (np.diff(array) <= 0).any():
        return None
    first, numbers = int(array[0]), np.arange(len(array))
    mean = (int(array[-1]) - first) / max(len(array) - 1, 1)
    for step in (mean, step_hint):
        if step and (np.rint(first + numbers * step) == array).all():
            return FrameTimes(first, float(step))
    return FrameTimes(first, 0.0, tuple(known))
