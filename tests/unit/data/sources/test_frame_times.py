from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.data.sources.frame_times import frame_times


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(24000, 1001), Fraction(30000, 1001)])
def test_equal_distances_are_kept_as_one_number(rate: Fraction) -> None:
    milliseconds = [int(i * 1000 / rate + Fraction(1, 2)) for i in range(5000)]
    times = frame_times(milliseconds, 1000 / rate)
    assert times is not None
    assert times.listed == ()
    assert times.window(1234, 17) == milliseconds[1234:1251]


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=50), st.integers(-(2**40), 2**40))
def test_any_rising_times_come_back(distances: list[int], first: int) -> None:
    known = [first]
    for distance in distances:
        known.append(known[-1] + distance)
    times = frame_times(known, Fraction(1))
    assert times is not None
    for start in range(len(known)):
        assert times.window(start, len(known) - start) == known[start:]


@pytest.mark.parametrize("times", [[], [None, 1], [0, 0], [0, 2, 1]])
def test_frames_that_times_do_not_tell_apart_have_none(times: list[int | None]) -> None:
    assert frame_times(times) is None
