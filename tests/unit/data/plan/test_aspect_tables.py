from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from kinetoscope.data.plan.aspect_tables import (
    frame_size,
    named_resolution,
    parse_aspect_ratio,
    parse_num_frames,
    resolution_names,
)
from kinetoscope.data.plan.config import NamedResolution
from kinetoscope.parity.reference.aspect_ratios import ASPECT_RATIO_KEYS
from kinetoscope.parity.reference.buckets import reference_frame_size


@pytest.mark.parametrize(
    ("resolution", "ratio", "size"),
    [
        ("240p", "9:16", (240, 426)),
        ("720p", "16:9", (1280, 720)),
        # Square images of these tables stop the reference with an assertion.
        ("512", "1:1", (512, 512)),
        ("1024", "1:1", (1024, 1024)),
        ("512", "1:2", (352, 704)),
        # The reference gives 50:27 the size of 25:12.
        ("720p", "50:27", (1320, 698)),
        ("720p", "25:12", (1386, 666)),
        ("144p", "1080:1920", (144, 256)),
    ],
)
def test_named_sizes(resolution: str, ratio: str, size: tuple[int, int]) -> None:
    assert frame_size(resolution, ratio) == size


def test_every_ratio_that_users_may_name_has_a_size_near_it_in_every_table() -> None:
    for resolution in resolution_names():
        for ratio in ASPECT_RATIO_KEYS:
            height, width = frame_size(resolution, ratio)
            assert height / width == pytest.approx(parse_aspect_ratio(ratio), rel=0.08)


def test_where_the_reference_finds_a_size_ours_is_the_same_but_for_its_mistake() -> None:
    differ = set()
    for resolution in resolution_names():
        for ratio in ASPECT_RATIO_KEYS:
            try:
                size = reference_frame_size(resolution, ratio)
            except ValueError:
                continue
            if frame_size(resolution, ratio) != size:
                differ.add(ratio)
    assert differ == {"50:27"}


@pytest.mark.parametrize("resolution", resolution_names())
def test_the_nearest_ratio_is_the_one_of_least_rounded_distance_first_among_equals(
    resolution: str,
) -> None:
    table = named_resolution(resolution)
    ratios = np.array([float(key) for key in table.keys])
    order = np.sort(ratios)
    middles = (order[1:] + order[:-1]) / 2
    wanted = np.concatenate(
        [
            np.random.default_rng(0).uniform(0.1, 5, 5000),
            np.round(np.arange(0.1, 5, 0.005), 3),
            *(np.nextafter(middles, end) for end in (0, 9)),
            middles,
            [1e-9, 1e9],
        ]
    )
    expected = np.abs(wanted[:, None] - ratios).argmin(axis=1)
    np.testing.assert_array_equal(table.nearest(wanted), expected)


def test_what_is_no_ratio_or_far_from_every_one_is_refused() -> None:
    with pytest.raises(ValueError, match="144p"):
        frame_size("145p", "1:1")
    for text in ("16/9", "9:0", "-9:16", "9", "nan:1", "a:b"):
        with pytest.raises(ValueError, match="9:16"):
            frame_size("144p", text)
    with pytest.raises(ValueError, match=r"is 0\.25; resolution '144p' has 0\.38 to 2\.08"):
        frame_size("144p", "1:4")
    assert frame_size("512", "1:4") == (256, 1024)


def test_configs_may_name_every_table() -> None:
    assert sorted(get_args(NamedResolution)) == sorted(resolution_names())


def test_lengths_have_names() -> None:
    given = ("2s", "16x", "51", 17, 16.0)
    assert [parse_num_frames(length) for length in given] == [51, 816, 51, 17, 16]
    for length in ("abc", "0", -1, 16.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="number of frames"):
            parse_num_frames(length)
