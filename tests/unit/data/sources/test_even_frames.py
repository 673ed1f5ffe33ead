from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from kinetoscope.data.sources.even_frames import EvenFrames, timing_of
from kinetoscope.data.sources.frame_times import FrameTimes

MILLISECOND = Fraction(1, 1000)
FRACTION = Fraction(1, 12288)


def _times(places: list[int], rate: float, base: Fraction) -> list[int | None]:
    return [round(place / rate / base) for place in places]


@pytest.mark.parametrize("base", [MILLISECOND, FRACTION])
@pytest.mark.parametrize("rate", [1.0, 8.0, 16.0, 24000 / 1001, 25.0, 30000 / 1001, 60.0, 240.0])
def test_frames_at_equal_distances_are_even_and_have_the_declared_rate(
    rate: float, base: Fraction
) -> None:
    declared = [Fraction(rate).limit_denominator(1001), None]
    times = _times(list(range(500)), rate, base)
    timing = timing_of(times, base, declared)
    assert timing.even
    assert timing.rate == pytest.approx(rate)


@pytest.mark.parametrize("base", [MILLISECOND, FRACTION])
def test_where_every_third_frame_is_missing_the_rate_is_the_one_before(base: Fraction) -> None:
    places = [place for place in range(240) if place % 3 != 1]
    timing = timing_of(_times(places, 24, base), base, [Fraction(16)])
    assert not timing.even
    assert timing.rate == pytest.approx(24)


def test_a_screen_recording_without_its_still_frames_keeps_its_rate() -> None:
    rng = np.random.default_rng(0)
    places = sorted(rng.choice(600, 250, replace=False).tolist())
    times = _times(places, 30, MILLISECOND)
    assert timing_of(times, MILLISECOND, [Fraction(25, 2), Fraction(1000)]) == (30.0, False)


def test_frames_that_waver_about_even_times_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(1)
    times: list[int | None] = [
        round(i * 100 / 3 + float(d)) for i, d in enumerate(rng.uniform(-12, 12, 300))
    ]
    timing = timing_of(times, MILLISECOND, [Fraction(30), None])
    assert timing == (30.0, True)


def test_a_pause_within_a_video_is_shown_as_one() -> None:
    times = _times([*range(100), *range(130, 230)], 30, MILLISECOND)
    timing = timing_of(times, MILLISECOND, [Fraction(26)])
    assert not timing.even
    assert timing.rate == pytest.approx(30)


@pytest.mark.parametrize("times", [[None, 3], [4], [], [5, 5]])
def test_without_times_the_declared_rate_counts(times: list[int | None]) -> None:
    assert timing_of(times, MILLISECOND, [Fraction(12)]) == (12.0, True)
    assert timing_of(times, MILLISECOND, []) == (0.0, True)


@pytest.mark.parametrize(
    "times",
    [
        [i // 2 * 40 for i in range(60)],
        [*[0] * 40, *(40 * i for i in range(1, 30))],
        [i // 3 for i in range(90)],
    ],
)
def test_frames_that_share_their_times_have_a_rate(times: list[int | None]) -> None:
    timing = timing_of(times, MILLISECOND, [Fraction(30)])
    assert timing.even
    assert timing.rate > 0


def test_a_median_distance_is_rounded_to_a_usual_rate() -> None:
    rng = np.random.default_rng(3)
    places = np.cumsum(rng.choice([1, 1, 1, 1, 1, 2, 3, 1.4], 200))
    times: list[int | None] = [round(float(place) * 1000 / 24) for place in places]
    assert timing_of(times, MILLISECOND, [Fraction(17)]).rate == pytest.approx(24)


def test_even_frames_show_the_last_decoded_frame_before_them() -> None:
    # Frames 0 2 3 5 6 8 of a video of 24 frames per second, in units of 1/24 s.
    times = FrameTimes(7, listed=(7, 9, 10, 12, 13, 15))
    even = EvenFrames((1, 1), 6)
    assert even.decoded(times, 0, 9) == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert even.decoded(times, 4, 3) == [2, 3, 4]
    # At 8 frames per second: times 0, 3, 6.
    assert EvenFrames((3, 1), 6).decoded(times, 0, 3) == [0, 2, 4]


def test_without_times_frames_are_counted() -> None:
    assert EvenFrames((3, 1), 9).decoded(None, 0, 3) == [1, 4, 7]
    assert EvenFrames((1, 2), 3).decoded(None, 0, 6) == [0, 0, 1, 1, 2, 2]
