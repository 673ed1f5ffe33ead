from __future__ import annotations

import logging
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny.clips import clip_row

from kinetoscope.core.errors import ConfigError, DataError
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.batch_plan import BatchPlan, EpochPlan, Step, check_world_size
from kinetoscope.data.plan.buckets import Bucket
from kinetoscope.data.plan.config import BucketConfig, BucketsConfig, ClipPlanConfig


def make_table(shapes: list[tuple[int, int, int]]) -> ClipTable:
    return ClipTable.from_rows(
        clip_row(number, num_frames=frames, height=height, width=width)
        for number, (frames, height, width) in enumerate(shapes)
    )


def buckets(*rows: dict[str, Any]) -> BucketsConfig:
    return BucketsConfig(buckets=tuple(BucketConfig(**row) for row in rows))


MIXED = make_table([(20, 200, 200)] * 300 + [(60, 200, 200)] * 150 + [(1, 400, 400)] * 200)
MIXED_BUCKETS = buckets(
    {"resolution": "240p", "num_frames": 1, "keep_probability": 0.5, "batch_size": 10},
    {"resolution": "144p", "num_frames": 1, "batch_size": 8},
    {"resolution": "144p", "num_frames": 17, "batch_size": 4},
    {"resolution": "144p", "num_frames": 51, "batch_size": 2},
)


def mixed_plan(micro_batches_per_step: int = 4, seed: int = 0) -> BatchPlan:
    return BatchPlan(MIXED, MIXED_BUCKETS, micro_batches_per_step=micro_batches_per_step, seed=seed)


def num_micro_batches(epoch: EpochPlan) -> Counter[Bucket]:
    return Counter(batch.bucket for step in epoch for batch in step.micro_batches)


def test_a_plan_is_a_function_of_seed_and_epoch() -> None:
    assert list(mixed_plan().epoch(3)) == list(mixed_plan().epoch(3))
    assert list(mixed_plan().epoch(3)) != list(mixed_plan().epoch(4))
    assert list(mixed_plan().epoch(3)) != list(mixed_plan(seed=1).epoch(3))


def test_every_step_has_the_asked_micro_batches_of_one_shape_each() -> None:
    for step in mixed_plan(4).epoch(0):
        assert len(step.micro_batches) == 4
        for batch in step.micro_batches:
            sizes = {b.num_frames: b.batch_size for b in MIXED_BUCKETS.buckets if b.num_frames > 1}
            if batch.bucket.num_frames > 1:
                assert len(batch.items) == sizes[batch.bucket.num_frames]
            for item in batch.items:
                room = MIXED.num_frames[item.clip] - batch.bucket.num_frames
                assert 0 <= item.start_frame <= room


def test_indices_are_unique_and_count_all_samples() -> None:
    epoch = mixed_plan().epoch(1)
    indices = [item.index for step in epoch for batch in step.micro_batches for item in batch.items]
    assert sorted(indices) == list(range(epoch.num_samples))
    assert epoch.num_samples == sum(step.num_samples for step in epoch)


def test_a_clip_is_seen_at_most_once_when_buckets_are_full() -> None:
    items = [i for step in mixed_plan().epoch(0) for b in step.micro_batches for i in b.items]
    assert max(Counter(item.clip for item in items).values()) == 1
    assert len(items) > 0.9 * len(MIXED)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    epoch=st.integers(0, 5),
    micro_batches=st.sampled_from([1, 2, 4, 6, 12]),
    shapes=st.lists(
        st.tuples(st.integers(1, 80), st.integers(120, 400), st.integers(120, 400)),
        min_size=1,
        max_size=40,
    ),
)
def test_ranks_share_every_step_whatever_their_number(
    epoch: int, micro_batches: int, shapes: list[tuple[int, int, int]]
) -> None:
    shapes = [*shapes, (60, 200, 200)]
    plan = BatchPlan(
        make_table(shapes), MIXED_BUCKETS, micro_batches_per_step=micro_batches, seed=7
    )
    steps = plan.epoch(epoch)
    assert len(steps) >= 1
    for world_size in range(1, micro_batches + 1):
        if micro_batches % world_size:
            continue
        for step in steps:
            shares = [step.for_rank(rank, world_size) for rank in range(world_size)]
            assert {len(share) for share in shares} == {micro_batches // world_size}
            everything = [batch for share in shares for batch in share]
            assert sorted(everything, key=_first) == sorted(step.micro_batches, key=_first)


def _first(batch: Any) -> int:
    return int(batch.items[0].index)


def test_a_world_size_that_does_not_divide_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"\[1, 2, 3, 4, 6, 12\]"):
        check_world_size(12, 5)
    with pytest.raises(ConfigError, match="5 processes"):
        Step(mixed_plan(12).epoch(0)[0].micro_batches).for_rank(0, 5)


def test_micro_batches_of_a_step_cost_about_the_same() -> None:
    def cost(bucket: Bucket, samples: int) -> int:
        return samples * bucket.num_frames * bucket.height * bucket.width

    epoch = mixed_plan(4).epoch(0)
    uneven = 0
    for step in epoch:
        costs = [cost(batch.bucket, len(batch.items)) for batch in step.micro_batches]
        uneven += max(costs) > 1.05 * min(costs)
    # Only steps at the seam between two buckets may mix.
    assert uneven <= len(num_micro_batches(epoch))


def test_every_bucket_keeps_its_share_over_stretches_of_an_epoch() -> None:
    epoch = mixed_plan(2).epoch(0)
    steps = list(epoch)
    shares = num_micro_batches(epoch)
    for first in range(0, len(steps) // 2, 5):
        stretch = steps[first : first + len(steps) // 2]
        seen = Counter(batch.bucket for step in stretch for batch in step.micro_batches)
        for bucket, total in shares.items():
            expected = total * len(stretch) / len(steps)
            assert abs(seen[bucket] - expected) <= 4 * 2, bucket


def test_the_order_of_steps_is_shuffled() -> None:
    labels = [step.micro_batches[0].bucket for step in mixed_plan(1).epoch(0)]
    changes = sum(a != b for a, b in pairwise(labels))
    assert changes > len(labels) / 4


def test_windows_and_company_change_from_epoch_to_epoch() -> None:
    plan = mixed_plan(1)
    starts = [
        {
            item.clip: item.start_frame
            for step in plan.epoch(epoch)
            for batch in step.micro_batches
            if batch.bucket.num_frames == 17
            for item in batch.items
        }
        for epoch in (0, 1)
    ]
    both = starts[0].keys() & starts[1].keys()
    assert sum(starts[0][clip] != starts[1][clip] for clip in both) > len(both) / 3
    assert len(set(starts[0].values())) == 4  # windows of 17 in 20 frames


def test_steps_from_a_position_continue_the_same_sequence() -> None:
    plan = mixed_plan()
    straight = list(islice(plan.steps_from(), 120))
    length = len(plan.epoch(0))
    assert straight[length][:2] == (1, 0)
    for at in (1, length - 1, length, length + 3):
        epoch, place, _ = straight[at - 1]
        assert list(islice(mixed_plan().steps_from(epoch, place + 1), 20)) == straight[at : at + 20]


def test_a_bucket_with_fewer_clips_than_a_batch_repeats_them_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = buckets({"resolution": "144p", "num_frames": 17, "batch_size": 8})
    plan = BatchPlan(make_table([(20, 200, 200)] * 3), config, seed=0)
    with caplog.at_level(logging.WARNING):
        epoch = plan.epoch(0)
        plan.epoch(0)
    assert len(epoch) == 1
    clips = Counter(item.clip for item in epoch[0].micro_batches[0].items)
    assert sorted(clips.values()) == [2, 3, 3]
    assert [r.getMessage() for r in caplog.records] == list(epoch.notes)
    assert "repeats its 3 clips to fill a batch of 8" in epoch.notes[0]


def test_fewer_micro_batches_than_a_step_are_repeated_with_new_indices() -> None:
    config = buckets({"resolution": "144p", "num_frames": 17, "batch_size": 2})
    plan = BatchPlan(make_table([(20, 200, 200)] * 4), config, micro_batches_per_step=6, seed=0)
    (step,) = plan.epoch(0)
    assert len(step.micro_batches) == 6
    assert sorted(i.index for b in step.micro_batches for i in b.items) == list(range(12))


def test_data_that_fits_no_bucket_is_refused_with_the_reasons() -> None:
    config = buckets(
        {"resolution": "240p", "num_frames": 51}, {"resolution": "144p", "num_frames": 34}
    )
    table = make_table([(20, 200, 200), (100, 20, 20), (17, 300, 300)])
    with pytest.raises(DataError) as caught:
        BatchPlan(table, config, seed=0).epoch(0)
    message = caught.value.message
    for part in ("240p x 51", "144p x 34", "3 clips", "100 frames", "300x300", "1 x fewer pixels"):
        assert part in message
    with pytest.raises(DataError, match="there are no clips"):
        BatchPlan(make_table([]), config, seed=0).epoch(0)


def test_an_epoch_in_which_no_clip_was_drawn_is_drawn_again() -> None:
    config = buckets({"resolution": "144p", "num_frames": 17, "keep_probability": 0.05})
    plan = BatchPlan(make_table([(20, 200, 200)]), config, seed=0)
    assert all(len(plan.epoch(epoch)) == 1 for epoch in range(10))


def test_a_million_clips_are_planned_in_seconds() -> None:
    rng = np.random.default_rng(0)
    count = 1_000_000
    table = make_table([(60, 200, 200)]).take(np.zeros(count, dtype=np.int64))
    table.num_frames[:] = rng.integers(1, 500, count)
    epoch = BatchPlan(table, MIXED_BUCKETS, micro_batches_per_step=96, seed=0).epoch(0)
    assert len(epoch) > 1000
    assert epoch[-1].num_samples >= 96 * 2


def clip_plan(table: ClipTable, *, micro_batches: int = 1, **config: Any) -> BatchPlan:
    base = {"num_frames": 17, "height": 32, "width": 32, "batch_size": 4}
    return BatchPlan(
        table, ClipPlanConfig(**(base | config)), micro_batches_per_step=micro_batches, seed=3
    )


SMALL = make_table([(17, 32, 32)] * 400 + [(5, 32, 32)])


def test_fixed_plans_see_every_long_enough_clip_once() -> None:
    epoch = clip_plan(SMALL).epoch(0)
    items = [item for step in epoch for item in step.micro_batches[0].items]
    assert sorted(item.clip for item in items) == list(range(400))
    assert {item.start_frame for item in items} == {0}
    assert len(epoch.dropped) == 1


def test_single_frame_plans_draw_frames_from_all_over_the_clip() -> None:
    epoch = clip_plan(SMALL, num_frames=1).epoch(0)
    starts = Counter(item.start_frame for s in epoch for item in s.micro_batches[0].items)
    assert set(starts) == set(range(17))


def test_image_mix_has_its_share_of_images() -> None:
    epochs = [clip_plan(SMALL, lengths="image_mix", image_batch_size=8).epoch(e) for e in range(10)]
    batches = [batch for epoch in epochs for step in epoch for batch in step.micro_batches]
    images = [batch for batch in batches if batch.bucket.num_frames == 1]
    assert 0.15 < len(images) / len(batches) < 0.25
    assert {len(batch.items) for batch in images} == {8}
    assert {(b.bucket.num_frames, len(b.items)) for b in batches} == {(1, 8), (17, 4)}


def test_random_lengths_cover_all_and_hold_about_the_asked_frames() -> None:
    plan = clip_plan(SMALL, lengths="random", frames_per_batch=34)
    batches = [b for e in range(20) for step in plan.epoch(e) for b in step.micro_batches]
    assert {batch.bucket.num_frames for batch in batches} == set(range(1, 18))
    for batch in batches:
        assert len(batch.items) == max(34 // batch.bucket.num_frames, 1)
        for item in batch.items:
            assert item.start_frame + batch.bucket.num_frames <= 17


def test_few_clips_still_make_whole_steps() -> None:
    plan = clip_plan(make_table([(17, 32, 32)] * 3), micro_batches=4, batch_size=4)
    epoch = plan.epoch(0)
    assert len(epoch) == 1
    assert epoch.num_samples == 16
    assert "repeats its 3 clips" in epoch.notes[0]


def test_clips_that_are_all_too_short_are_refused() -> None:
    with pytest.raises(DataError, match="at most 5 frames"):
        clip_plan(make_table([(5, 32, 32)] * 9)).epoch(0)


def test_frames_per_batch_belongs_to_random_lengths() -> None:
    with pytest.raises(ValidationError, match="frames_per_batch=34"):
        ClipPlanConfig(num_frames=17, height=32, width=32, frames_per_batch=34)
