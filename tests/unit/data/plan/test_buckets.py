from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kinetoscope.core.keys import random_key, uniform
from kinetoscope.data.plan.aspect_tables import named_resolution, resolution_names
from kinetoscope.data.plan.buckets import (
    NOT_DRAWN,
    OTHER_KIND,
    TOO_SHORT,
    TOO_SMALL,
    Assignment,
    Bucket,
    assign_buckets,
)
from kinetoscope.data.plan.config import BucketConfig, BucketsConfig, FrameSize

REFERENCE = Path(__file__).parents[3] / "golden" / "reference"


def buckets(*rows: dict[str, Any]) -> BucketsConfig:
    return BucketsConfig(buckets=tuple(BucketConfig(**row) for row in rows))


def assign(
    config: BucketsConfig,
    *rows: tuple[int, int, int],
    epoch: int = 0,
    stride: tuple[int, int] = (1, 1),
) -> Assignment:
    frames, heights, widths = (np.array(column) for column in zip(*rows, strict=True))
    return assign_buckets(config, (frames, heights, widths), stride=stride, key=(42, epoch))


def chosen(assignment: Assignment) -> list[Bucket | None]:
    return [assignment.buckets[i] if i >= 0 else None for i in assignment.bucket]


def from_reference(config: dict[str, dict[str, list[Any]]]) -> BucketsConfig:
    rows = []
    for resolution, lengths in config.items():
        for frames, (probability, batch_size) in lengths.items():
            keep, length = probability if isinstance(probability, list) else (probability, 1.0)
            # Some buckets of this golden have no batch size (blockers, yet with probability 1).
            rows.append(
                {
                    "resolution": resolution,
                    "num_frames": int(frames),
                    "keep_probability": keep,
                    "length_probability": length,
                    "batch_size": batch_size or 1,
                }
            )
    return buckets(*rows)


def test_without_draws_every_clip_lands_where_the_reference_puts_it() -> None:
    golden = json.loads((REFERENCE / "buckets_deterministic.json").read_text())
    config = from_reference(golden["in"]["bucket_config"])
    samples = golden["in"]["samples"]
    # Reference: T > t * interval; ours: T >= t. The lengths are mapped so that both ask the same.
    frames = [1 if t == 1 else max((t - 1) // interval, 2) for t, _, _, interval, _ in samples]
    rows = [(t, h, w) for t, (_, h, w, _, _) in zip(frames, samples, strict=True)]
    sizes = {
        (name, ratio): size[1:]
        for name, _, ratio, size, _, _ in golden["out"]["table_hw_t_ar_thw_prob_bs"]
    }
    expected = [
        None if bucket is None else Bucket(bucket[0], bucket[1], *sizes[bucket[0], bucket[2]])
        for bucket in golden["out"]["bucket_id"]
    ]
    assert sum(bucket is not None for bucket in expected) > 100
    assert chosen(assign(config, *rows)) == expected


def test_a_clip_of_exactly_the_bucket_length_fits() -> None:
    config = buckets({"resolution": "144p", "num_frames": 51})
    result = assign(config, (51, 192, 192), (50, 192, 192))
    assert chosen(result) == [Bucket("144p", 51, 192, 192), None]
    assert result.dropped == {TOO_SHORT: 1}


def test_images_take_image_buckets_and_videos_never_do() -> None:
    config = buckets(
        {"resolution": "144p", "num_frames": 1}, {"resolution": "144p", "num_frames": 17}
    )
    result = assign(config, (1, 192, 192), (16, 192, 192), (17, 192, 192))
    assert [bucket and bucket.num_frames for bucket in chosen(result)] == [1, None, 17]


def test_clips_of_a_kind_that_has_no_bucket_are_told_from_short_ones() -> None:
    images = buckets({"resolution": "144p", "num_frames": 1})
    assert assign(images, (40, 192, 192), (1, 192, 192)).dropped == {OTHER_KIND: 1}
    videos = buckets({"resolution": "144p", "num_frames": 17})
    assert assign(videos, (1, 192, 192), (9, 192, 192)).dropped == {OTHER_KIND: 1, TOO_SHORT: 1}
    larger = buckets(
        {"resolution": "144p", "num_frames": 1}, {"resolution": "480p", "num_frames": 17}
    )
    assert assign(larger, (17, 192, 192)).dropped == {OTHER_KIND: 1}


def test_dropped_clips_are_counted_by_reason() -> None:
    config = buckets(
        {"resolution": "240p", "num_frames": 17, "keep_probability": 0.5},
        {"resolution": "144p", "num_frames": 51},
    )
    small = (17, 100, 100)
    short = (10, 320, 320)
    maybe = (17, 320, 320)
    result = assign(config, *[small] * 3, *[short] * 2, *[maybe] * 1000)
    assert result.dropped[TOO_SMALL] == 3
    assert result.dropped[TOO_SHORT] == 2
    assert 430 < result.dropped[NOT_DRAWN] < 570
    assert sum(result.dropped.values()) + (result.bucket >= 0).sum() == 1005


def test_probabilities_are_met_and_what_is_not_kept_falls_a_resolution() -> None:
    config = buckets(
        {
            "resolution": "240p",
            "num_frames": 102,
            "keep_probability": 0.5,
            "length_probability": 0.2,
        },
        {"resolution": "240p", "num_frames": 51, "keep_probability": 0.25},
        {"resolution": "144p", "num_frames": 51},
    )
    result = assign(config, *[(120, 320, 320)] * 20_000)
    counts = {(b.resolution, b.num_frames): 0 for b in result.buckets}
    for bucket in chosen(result):
        assert bucket is not None
        counts[bucket.resolution, bucket.num_frames] += 1
    assert counts["240p", 102] == pytest.approx(0.2 * 0.5 * 20_000, rel=0.1)
    assert counts["240p", 51] == pytest.approx(0.8 * 0.25 * 20_000, rel=0.1)
    assert counts["144p", 51] == pytest.approx(0.7 * 20_000, rel=0.1)


def test_a_bucket_with_keep_probability_0_blocks_its_resolution() -> None:
    config = buckets(
        {"resolution": "480p", "num_frames": 408, "keep_probability": 0},
        {"resolution": "480p", "num_frames": 51},
        {"resolution": "144p", "num_frames": 51},
    )
    result = assign(config, (500, 640, 640), (100, 640, 640))
    assert [bucket and bucket.resolution for bucket in chosen(result)] == ["144p", "480p"]


def test_draws_depend_on_the_epoch_and_not_on_other_rows() -> None:
    config = buckets({"resolution": "144p", "num_frames": 17, "keep_probability": 0.5})
    rows = [(20, 200, 200)] * 200
    first = assign(config, *rows).bucket
    np.testing.assert_array_equal(first[:50], assign(config, *rows[:50]).bucket)
    assert (first != assign(config, *rows, epoch=1).bucket).any()


@pytest.mark.parametrize("stride", [(8, 8), (16, 16), (32, 16)])
def test_sizes_are_cut_to_multiples_of_the_stride(stride: tuple[int, int]) -> None:
    config = buckets({"resolution": "240p", "num_frames": 17})
    frames = np.full(400, 20)
    heights = np.arange(300, 700)
    widths = np.arange(700, 300, -1)
    result = assign_buckets(config, (frames, heights, widths), stride=stride)
    assert len(result.buckets) > 3
    for bucket in result.buckets:
        assert bucket.height % stride[0] == bucket.width % stride[1] == 0
    assert (result.bucket >= 0).all()


def test_an_explicit_size_takes_every_aspect_ratio() -> None:
    config = buckets({"resolution": FrameSize(height=32, width=48), "num_frames": 17})
    result = assign(config, (17, 32, 48), (17, 100, 20), (17, 20, 100))
    assert set(chosen(result)) == {Bucket("32x48", 17, 32, 48)}


def test_a_row_lands_in_the_same_bucket_however_many_threads_and_chunks() -> None:
    config = buckets(
        {"resolution": "240p", "num_frames": 51, "keep_probability": 0.5},
        {"resolution": "144p", "num_frames": 51, "length_probability": 0.5},
        {"resolution": "144p", "num_frames": 1, "keep_probability": 0.5},
    )
    rng = np.random.default_rng(0)
    frames, heights, widths = (rng.integers(1, most, 150_000) for most in (120, 700, 700))
    frames[::3] = 1

    def assigned(count: int, threads: int) -> list[Bucket | None]:
        columns = frames[:count], heights[:count], widths[:count]
        return chosen(
            assign_buckets(config, columns, stride=(1, 1), key=(42,), num_threads=threads)
        )

    alone = assigned(150_000, 1)
    assert alone == assigned(150_000, 3)
    assert alone[:70_000] == assigned(70_000, 2)
    kinds = {bucket and (bucket.resolution, bucket.num_frames) for bucket in alone}
    assert kinds == {None, ("240p", 51), ("144p", 51), ("144p", 1)}


def test_a_rows_draws_are_those_of_its_number_in_the_table() -> None:
    config = buckets({"resolution": "144p", "num_frames": 17, "keep_probability": 0.5})
    num_rows = 150_000
    columns = tuple(np.full(num_rows, value) for value in (20, 200, 200))
    result = assign_buckets(
        config, (columns[0], columns[1], columns[2]), stride=(1, 1), key=(42, 3)
    )
    draws = uniform(random_key("bucket_keep", 42, 3, "144p", 17), np.arange(num_rows))
    np.testing.assert_array_equal(result.bucket >= 0, draws < 0.5)


@settings(max_examples=60, deadline=None)
@given(
    resolution=st.sampled_from(resolution_names()),
    stride=st.tuples(st.sampled_from([8, 16, 32]), st.sampled_from([8, 16, 24])),
    num_frames=st.sampled_from([1, 51]),
)
def test_every_bucket_of_every_table_is_whole_patches_and_never_larger(
    resolution: str, stride: tuple[int, int], num_frames: int
) -> None:
    config = buckets({"resolution": resolution, "num_frames": num_frames})
    sizes = named_resolution(resolution).sizes
    clips = [(num_frames, round(10_000 * float(ratio)), 10_000) for ratio in sizes]
    result = assign(config, *clips, stride=stride)
    assert (result.bucket >= 0).all()
    for bucket, (height, width) in zip(chosen(result), sizes.values(), strict=True):
        assert bucket is not None
        assert bucket.height % stride[0] == bucket.width % stride[1] == 0
        assert max(height - stride[0], 0) < bucket.height <= height
        assert max(width - stride[1], 0) < bucket.width <= width


def test_an_image_bucket_may_have_a_length_probability() -> None:
    config = buckets({"resolution": "144p", "num_frames": 1, "length_probability": 0.25})
    share = (assign(config, *[(1, 192, 192)] * 10_000).bucket >= 0).mean()
    assert share == pytest.approx(0.25, rel=0.1)


def test_among_equally_large_resolutions_the_first_of_the_config_is_tried_first() -> None:
    rows: list[dict[str, Any]] = [
        {"resolution": resolution, "num_frames": 17} for resolution in ("4k", "2880")
    ]
    clip = (17, 2880, 2880)
    first = chosen(assign(buckets(*rows), clip))[0]
    second = chosen(assign(buckets(*rows[::-1]), clip))[0]
    assert first is not None
    assert second is not None
    assert (first.resolution, second.resolution) == ("4k", "2880")


def test_columns_of_different_length_and_strides_below_1_are_refused() -> None:
    config = buckets({"resolution": "144p", "num_frames": 17})
    one, two = np.array([17]), np.array([200, 200])
    with pytest.raises(ValueError, match=r"differ in length: \[1, 2, 2\]"):
        assign_buckets(config, (one, two, two), stride=(1, 1))
    with pytest.raises(ValueError, match="at least"):
        assign_buckets(config, (two, two, two), stride=(0, 8))


def test_no_rows_give_no_buckets() -> None:
    empty = np.empty(0, dtype=np.int64)
    config = buckets({"resolution": "144p", "num_frames": 17})
    result = assign_buckets(config, (empty, empty, empty), stride=(8, 8))
    assert (len(result.bucket), result.buckets, result.dropped) == (0, (), {})


def test_unknown_resolutions_are_refused() -> None:
    with pytest.raises(ValidationError, match="240p"):
        BucketConfig(resolution="241p", num_frames=1)


def test_configs_that_can_never_give_a_batch_are_refused() -> None:
    with pytest.raises(ValidationError, match="never give a batch"):
        buckets({"resolution": "144p", "num_frames": 1, "keep_probability": 0})
    with pytest.raises(ValidationError, match="144p x 1"):
        buckets(*[{"resolution": "144p", "num_frames": 1}] * 2)
