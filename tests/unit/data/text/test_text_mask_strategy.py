"""Mask strategies as text."""

from __future__ import annotations

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import (
    MaskGroup,
    continue_from,
    parse_mask_strategy,
    snap_start,
)


def test_what_a_group_leaves_out_has_defaults() -> None:
    assert parse_mask_strategy("0;1,2,-3,4,5,0.5") == [
        (0, 0, 0, 0, 1, 0.0),
        (1, 2, -3, 4, 5, 0.5),
    ]
    assert parse_mask_strategy("") == parse_mask_strategy(None) == []


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ("a,b", "numbers"),
        ("0;", "numbers"),
        ("0,0,0,0,1.5", "numbers"),
        ("0,0,0,0,1,0,7", "7 numbers"),
        ("-1", "count from 0"),
        ("0,-1", "count from 0"),
        ("0,0,0,0,0", "below 1"),
        ("0,0,0,0,1,1.5", "edit ratio 1.5"),
        ("0,0,0,0,1,nan", "edit ratio nan"),
    ],
)
def test_a_malformed_strategy_is_refused(strategy: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_mask_strategy(strategy)


def test_starts_snap_to_the_nearest_piece_and_the_last_frame_stays() -> None:
    assert [snap_start(start, 5, 15) for start in range(15)] == [
        *(0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10, 10, 10, 10),
        14,
    ]


def test_a_last_piece_that_is_not_whole_can_be_reached() -> None:
    assert snap_start(4, 5, 9) == 5


def test_a_clip_is_continued_from_its_own_last_frames() -> None:
    group = MaskGroup(loop=2, length=5, edit=0.25)
    references, strategy = continue_from(["a"], "0", "previous", group=group)
    assert references == ["a", "previous"]
    assert strategy == "0;2,1,-5,0,5,0.25"
    assert parse_mask_strategy(strategy)[1] == (2, 1, -5, 0, 5, 0.25)
    assert continue_from(None, None, "previous", group=group) == (["previous"], "2,0,-5,0,5,0.25")
