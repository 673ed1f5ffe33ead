"""Our assignment against the reference's draws, row by row."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from kinetoscope.data.plan.buckets import assign_buckets
from kinetoscope.data.plan.config import BucketConfig, BucketsConfig, FrameSize
from kinetoscope.parity.reference.buckets import (
    ReferenceBuckets,
    nearest_resolution,
    nearest_smaller,
    reference_bucket_config,
    reference_num_frames,
)

NUM_ROWS = 6000

CONFIG = BucketsConfig(
    buckets=(
        BucketConfig(resolution="480p", num_frames=204, keep_probability=0.0),
        BucketConfig(resolution="480p", num_frames=51, keep_probability=0.3, batch_size=2),
        BucketConfig(
            resolution="240p", num_frames=102, keep_probability=0.6, length_probability=0.4
        ),
        BucketConfig(resolution="240p", num_frames=51, keep_probability=0.5),
        BucketConfig(resolution="240p", num_frames=1, keep_probability=0.25),
        BucketConfig(
            resolution="144p", num_frames=102, keep_probability=1.0, length_probability=0.5
        ),
        BucketConfig(resolution="144p", num_frames=51, keep_probability=0.8),
        BucketConfig(resolution="144p", num_frames=1),
    )
)


@pytest.mark.parametrize(
    "row", [(300, 640, 640), (110, 640, 640), (110, 320, 320), (60, 320, 320), (1, 640, 640)]
)
def test_our_draws_are_the_references_in_distribution(row: tuple[int, int, int]) -> None:
    reference = ReferenceBuckets(reference_bucket_config(CONFIG))
    theirs = Counter(
        bucket[:2] if (bucket := reference.bucket_of(*row, seed=seed)) else None
        for seed in range(0, NUM_ROWS * 64, 64)
    )
    columns = tuple(np.full(NUM_ROWS, value) for value in row)
    assigned = assign_buckets(CONFIG, (columns[0], columns[1], columns[2]), stride=(16, 16))
    ours = Counter(
        (assigned.buckets[i].resolution, assigned.buckets[i].num_frames) if i >= 0 else None
        for i in assigned.bucket
    )
    assert len(theirs | ours) > 1
    for outcome in theirs | ours:
        # Two binomial counts of the same chance differ by more than 5 deviations once in a million.
        expected = (theirs[outcome] + ours[outcome]) / 2
        deviation = (2 * expected * (1 - expected / NUM_ROWS)) ** 0.5
        assert abs(theirs[outcome] - ours[outcome]) <= max(5 * deviation, 1), outcome


def test_the_reference_wants_a_frame_more_than_the_bucket_has() -> None:
    reference = ReferenceBuckets({"144p": {51: (1.0, 4)}})
    assert reference.bucket_of(51, 192, 192, seed=0) is None
    assert reference.bucket_of(52, 192, 192, seed=0) == ("144p", 51, "1.00")
    assert reference.bucket_of(153, 192, 192, frame_interval=3, seed=0) is None
    assert reference.bucket_of(154, 192, 192, frame_interval=3, seed=0) == ("144p", 51, "1.00")


def test_images_take_neither_videos_buckets_nor_two_probabilities() -> None:
    reference = ReferenceBuckets({"240p": {51: (1.0, 4)}, "144p": {1: ((0.5, 0.5), 4)}})
    assert reference.bucket_of(100, 160, 200, seed=0) is None
    assert reference.bucket_of(1, 100, 100, seed=0) is None
    with pytest.raises(ValueError, match="one probability"):
        reference.bucket_of(1, 400, 400, seed=0)


def test_a_blocker_sends_clips_to_the_next_resolution() -> None:
    reference = ReferenceBuckets({"144p": {51: (1.0, 4)}, "240p": {102: (0.0, None), 51: (1.0, 4)}})
    assert reference.numbers == {"240p": {102: 0, 51: 1}, "144p": {51: 2}}
    assert reference.num_buckets == 3 * 17
    assert reference.bucket_of(200, 320, 320, seed=0) == ("144p", 51, "1.00")
    assert reference.bucket_of(60, 320, 320, seed=0) == ("240p", 51, "1.00")
    assert reference.table()["240p", 102, "0.56"] == ((102, 240, 426), 0.0, None)


def test_what_open_sora_has_no_words_for_is_refused() -> None:
    explicit = BucketConfig(resolution=FrameSize(height=32, width=48), num_frames=17)
    with pytest.raises(ValueError, match="32x48"):
        reference_bucket_config(BucketsConfig(buckets=(explicit,)))
    image = BucketConfig(resolution="144p", num_frames=1, length_probability=0.5)
    with pytest.raises(ValueError, match=r"images: 0\.5"):
        reference_bucket_config(BucketsConfig(buckets=(image,)))


def test_helpers_outside_what_the_golden_files_ask() -> None:
    assert nearest_resolution(1000) is None
    assert nearest_resolution(10**8) == "2880"
    assert nearest_resolution(40_000, tolerance=1.1) is None
    assert nearest_smaller(3, [10, 20]) == 10
    assert reference_num_frames(16.9) == 16
    with pytest.raises(ValueError, match="invalid literal"):
        reference_num_frames("long")
