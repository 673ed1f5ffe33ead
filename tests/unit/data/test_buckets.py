from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kinetoscope.data.buckets import (
    NOT_DRAWN,
    TOO_SHORT,
    TOO_SMALL,
    Assignment,
    Bucket,
    assign_buckets,
    frame_size,
)
from kinetoscope.data.plan_config import BucketConfig, BucketsConfig, FrameSize

REFERENCE = Path(__file__).parents[2] / "golden" / "reference"


def buckets(*rows: dict[str, Any]) -> BucketsConfig:
    return BucketsConfig(buckets=tuple(BucketConfig(**row) for row in rows))


def assign(config: BucketsConfig, *rows: tuple[int, int, int], epoch: int = 0) -> Assignment:
    frames, heights, widths = (np.array(column) for column in zip(*rows, strict=True))
    return assign_buckets(config, (frames, heights, widths), key=(42, epoch))


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


@pytest.mark.parametrize(
    ("resolution", "ratio", "size"),
    [
        ("240p", "9:16", (240, 426)),
        ("720p", "16:9", (1280, 720)),
        # Square images of these tables stop the reference with an assertion.
        ("512", "1:1", (512, 512)),
        ("1024", "1:1", (1024, 1024)),
    ],
)
def test_named_sizes(resolution: str, ratio: str, size: tuple[int, int]) -> None:
    assert frame_size(resolution, ratio) == size


def test_every_named_size_equals_the_reference() -> None:
    golden = json.loads((REFERENCE / "bucket_helpers.json").read_text())
    cases = zip(golden["in"]["get_image_size"], golden["out"]["get_image_size"], strict=True)
    compared = 0
    for (resolution, ratio), size in cases:
        if isinstance(size, list):
            assert list(frame_size(resolution, ratio)) == size
            compared += 1
    assert compared > 100


def test_unknown_names_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="144p"):
        frame_size("145p", "1:1")
    with pytest.raises(ValueError, match="9:16"):
        frame_size("144p", "16/9")
    with pytest.raises(ValidationError, match="240p"):
        BucketConfig(resolution="241p", num_frames=1)


def test_configs_that_can_never_give_a_batch_are_refused() -> None:
    with pytest.raises(ValidationError, match="never give a batch"):
        buckets({"resolution": "144p", "num_frames": 1, "keep_probability": 0})
    with pytest.raises(ValidationError, match="144p x 1"):
        buckets(*[{"resolution": "144p", "num_frames": 1}] * 2)
