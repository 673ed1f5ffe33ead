"""Decoded frames, taken at even times."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kinetoscope.data.sources.even_frames import even_number, same_rate, timing_of
from kinetoscope.data.sources.frame_times import frame_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

    from kinetoscope.data.sources.even_frames import Timing


class Pace(NamedTuple):
    """Which frames are taken.

    Attributes:
        distance: of even frames, in units of the video's times, or in decoded frames; None takes
            each decoded frame once.
        by_time: whether it is in units of time.
    """

    distance: Fraction | None = None
    by_time: bool = True

    @property
    def ratio(self) -> tuple[int, int] | None:
        """The distance as numerator and denominator."""
        return None if self.distance is None else self.distance.as_integer_ratio()


def pace_of(timing: Timing, fps: float | None, time_base: Fraction | None) -> Pace:
    """Return the pace at which a video's frames are taken at even times.

    Args:
        timing: its own.
        fps: frames per second to take; by default its own.
        time_base: of its frames' times; None where they don't tell the frames apart.
    """
    target = timing.rate if fps is None else fps
    as_it_is = same_rate(timing.rate, target)
    if (as_it_is and (timing.even or not time_base)) or timing.rate <= 0:
        return Pace()
    wanted = Fraction(target).limit_denominator(1001)
    if time_base:
        return Pace(1 / (wanted * time_base))
    return Pace(Fraction(timing.rate).limit_denominator(1001) / wanted, by_time=False)


def num_even_frames(pace: Pace, last: int, rate: float, time_base: Fraction) -> int:
    """Return how many even frames there are, the last decoded frame lasting as long as most.

    Args:
        pace: with a distance.
        last: time of the last frame since the first, in the pace's units.
        rate: the video's own.
        time_base: of its frames' times.
    """
    assert pace.distance is not None
    own = Fraction(rate).limit_denominator(1001)
    lasts = 1 / (own * time_base) if pace.by_time else Fraction(1)
    return max(1, int((last + lasts) / pace.distance + Fraction(1, 2)))


def declared_rates(stream: Any) -> list[Fraction | None]:
    """Return the frame rates that a file declares, the likeliest first."""
    return [stream.average_rate, stream.guessed_rate, stream.base_rate]


def pace_of_stream(container: Any, stream: Any, fps: float) -> tuple[Pace, int]:
    """Decode a stream for the times of its frames; return its pace and number of even frames.

    The number is 0 where each decoded frame is taken once.
    """
    times = [frame.pts for frame in container.decode(stream)]
    timing = timing_of(times, stream.time_base, declared_rates(stream))
    pace = pace_of(timing, fps, stream.time_base if frame_times(times) is not None else None)
    if pace.distance is None:
        return pace, 0
    last = times[-1] - times[0] if pace.by_time else len(times) - 1
    return pace, num_even_frames(pace, last, timing.rate, stream.time_base)


class Paced:
    """Takes a video's decoded frames one by one and gives those at even times.

    Args:
        pace: which they are.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pending: av.VideoFrame | None = None
        self._num_pushed = 0
        self._first: int | None = None
        self.last = 0
        """Time of the last frame since the first, in the pace's units."""
        self.num_given = 0

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take the next decoded frame, in display order; yield the frames that are due."""
        ratio = self._pace.ratio
        number = self.num_given
        if ratio is not None:
            number = int(even_number(self._since_first(frame), ratio))
            yield from self._until(number)
        self._pending = frame
        self._num_pushed += 1
        if ratio is None:
            yield from self._until(number + 1)

    def finish(self, num_frames: int) -> Iterator[av.VideoFrame]:
        """Yield what is left of a number of even frames."""
        yield from self._until(num_frames)

    def _since_first(self, frame: av.VideoFrame) -> int:
        # What has no time breaks the pace; it is set anew by the count of frames.
        at = frame.pts if self._pace.by_time else self._num_pushed
        if at is None:
            return self.last
        self._first = at if self._first is None else self._first
        self.last = at - self._first
        return self.last

    def _until(self, number: int) -> Iterator[av.VideoFrame]:
        while self._pending is not None and self.num_given < number:
            self.num_given += 1
            yield self._pending
