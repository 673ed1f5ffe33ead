"""Frames at even times: which decoded frame each of them shows, and at which rate.

What is trained on are frames at even times; most videos have nothing else. Of the others, and where
another rate is asked for, even frame ``k`` shows the last decoded frame whose time, in distances
of even frames since the first frame, rounds (half up) to ``k`` or less: what ffmpeg's ``fps``
filter gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.sources.frame_times import FrameTimes

RATE_SLACK = 0.005
"""Rates that differ by no more than this share are one rate (23.976 and 24)."""

_USUAL_RATES = tuple(
    Fraction(rate, under)
    for rate, under in (
        *((rate, 1) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
        *((rate * 1000, 1001) for rate in (24, 30, 60, 120)),
    )
)
# This share of the frames' distances, if equal, is the rate.
_MOST = 0.8
# Frames are at even times where this share of them is off by no more than that share of a distance.
_NEARLY_ALL, _NEARLY_AT = 0.95, 0.1
# More than this many times the mean rate would mostly repeat frames.
_MOST_REPEATED = 4
# A distance of 42 ms is meant for 1/24 s.
_ROUNDED = 0.015
# At a rate that is too low, frames fall together; this share may.
_LOST = 0.01


@dataclass(frozen=True, slots=True)
class EvenFrames:
    """How a video's decoded frames are taken at even times.

    Attributes:
        distance: of even frames, as numerator and denominator, in units of the video's times; in
            decoded frames where those are not known.
        num_decoded: frames that can be decoded.
    """

    distance: tuple[int, int]
    num_decoded: int

    def decoded(self, times: FrameTimes | None, start: int, num_frames: int) -> list[int]:
        """Return the numbers of the decoded frames that an even window shows; never falling."""
        count = self.num_decoded
        known = np.arange(count) if times is None else np.asarray(times.window(0, count))
        numbers = even_number(known - known[0], self.distance)
        window = np.arange(start, start + num_frames)
        return [int(i) for i in np.searchsorted(numbers, window, side="right") - 1]


def even_number(since_first: Any, distance: tuple[int, int]) -> Any:
    """Return the first even frame that shows each of the frames that come so long after the first.

    Args:
        since_first: whole units of time, as an array or one number.
        distance: of even frames in these units, as numerator and denominator.
    """
    over, under = distance
    return (2 * since_first * under + over) // (2 * over)


class Timing(NamedTuple):
    """A video's own frame rate, and whether its frames are at even times already."""

    rate: float
    even: bool


def timing_of(
    times: Sequence[int | None], time_base: Fraction | None, declared: Iterable[Fraction | None]
) -> Timing:
    """Return a video's frame rate, by the times of its frames.

    The declared rate, where the usual distance of frames is nearly the same, or else that distance.
    Where frames are missing or doubled, as in recordings of screens and by telephones, it is the
    rate at whose times nearly all frames lie; where there is none such, of the median distance.

    Args:
        times: of all frames, in units of ``time_base``.
        time_base: seconds of a unit.
        declared: rates that the file declares, the likeliest first; taken as it is where times are
            missing.
    """
    rates = [Fraction(rate) for rate in declared if rate]
    stated = float(rates[0]) if rates else 0.0
    known = sorted(time for time in times if time is not None)
    if not time_base or len(known) < len(times) or len(known) < 2 or known[0] == known[-1]:  # noqa: PLR2004
        return Timing(stated, True)
    since_first = np.asarray(known, np.int64) - known[0]
    seconds = np.asarray(since_first * float(time_base), np.float64)
    mean = float((len(known) - 1) / (int(since_first[-1]) * time_base))
    off = _off_even(seconds)
    in_place = bool(off.max() < 0.5)  # noqa: PLR2004 (rounds to its own number)
    if in_place and np.quantile(off, _NEARLY_ALL) <= _NEARLY_AT:
        return Timing(_nearest(mean, rates[:1]), True)
    usual = _usual_rate(since_first, time_base)
    own = [Fraction(usual)] if usual else []
    exact = _fitting(seconds, mean, [*own, *rates]) or _fitting(seconds, mean, _USUAL_RATES)
    if exact:
        return Timing(_nearest(exact, rates), False)
    # Cameras that time each frame: they waver about even times.
    if in_place:
        return Timing(_nearest(mean, rates[:1]), True)
    median = float(np.median(np.diff(seconds)))
    if median <= 0:  # most frames share their times with others
        return Timing(_nearest(mean, rates), True)
    return Timing(usual or _nearest(1 / median, [*rates, *_USUAL_RATES], _ROUNDED), False)


def same_rate(one: float, other: float) -> bool:
    """Return whether two rates are one (``RATE_SLACK``)."""
    return abs(one - other) <= RATE_SLACK * other


def _off_even(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far frames are off the even times that fit them best, in their distance."""
    numbers = np.arange(len(seconds))
    distance, first = np.polyfit(numbers, seconds, 1)
    return np.asarray(np.abs((seconds - first) / distance - numbers), np.float64)


def _usual_rate(since_first: npt.NDArray[np.int64], time_base: Fraction) -> float:
    """Return the rate by the distance that most frames have; 0 where there is none."""
    distances, counts = np.unique(np.diff(since_first), return_counts=True)
    usual = int(distances[counts.argmax()])
    if usual <= 0 or counts.max() < _MOST * (len(since_first) - 1):
        return 0.0
    return float(1 / (usual * time_base))


def _nearest(rate: float, rates: Iterable[Fraction], slack: float = RATE_SLACK) -> float:
    """Return the first of the rates that is nearly the same, or else the rate itself."""
    near = (float(other) for other in rates if abs(rate - other) <= slack * other)
    return next(near, rate)


def _fitting(seconds: npt.NDArray[np.float64], mean: float, rates: Iterable[Fraction]) -> float:
    """Return the rate at whose times the frames lie best; 0 where they lie well at none."""
    best, least = 0.0, _NEARLY_AT
    for rate in sorted({float(rate) for rate in rates}):
        if rate > _MOST_REPEATED * mean:
            break
        places = seconds * rate
        numbers = np.round(places)
        off = float(np.quantile(np.abs(places - numbers), _NEARLY_ALL))
        num_lost = len(numbers) - len(np.unique(numbers))
        if off < least and num_lost <= max(1, _LOST * len(numbers)):
            best, least = rate, off
    return best
