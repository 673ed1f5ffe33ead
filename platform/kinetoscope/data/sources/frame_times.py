"""When each frame of a video is shown, so that any is reached without reading those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Presentation times in the stream's own units, which rise from frame to frame.

    Most videos have frames at equal distances: their times follow from the first and the distance.

    Attributes:
        first: time of frame 0.
        distance: of frames, as numerator and denominator; frame ``i`` is at ``first + i *
            distance``, rounded half up, as muxers do.
        listed: the times, where they follow from no such rule; else empty.
    """

    first: int
    distance: tuple[int, int] = (0, 1)
    listed: tuple[int, ...] = ()

    def window(self, start: int, num_frames: int) -> list[int]:
        """Return the times of ``num_frames`` frames from ``start`` on."""
        if self.listed:
            return list(self.listed[start : start + num_frames])
        over, under = self.distance
        numbers = range(start, start + num_frames)
        return [self.first + (2 * number * over + under) // (2 * under) for number in numbers]


def frame_times(times: Sequence[int | None], declared: Fraction = Fraction()) -> FrameTimes | None:
    """Return the times of a video's frames in a short form.

    Args:
        times: of all frames in the order in which they are decoded.
        declared: distance of frames by the declared frame rate; 0 where there is none.

    Returns:
        None where frames can't be told apart by their times.
    """
    known = [time for time in times if time is not None]
    if not known or len(known) != len(times):
        return None
    array = np.asarray(known, dtype=np.int64)
    if (np.diff(array) <= 0).any():
        return None
    first, numbers = known[0], np.arange(len(known), dtype=np.int64)
    mean = Fraction(known[-1] - first, max(len(known) - 1, 1))
    for distance in (mean, declared):
        over, under = distance.numerator, distance.denominator
        if over > 0 and 2 * over * len(known) + under < _LARGEST:
            ruled = first + (2 * numbers * over + under) // (2 * under)
            if (ruled == array).all():
                return FrameTimes(first, (over, under))
    return FrameTimes(first, listed=tuple(known))
