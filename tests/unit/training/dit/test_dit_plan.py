from __future__ import annotations

from itertools import islice

import pytest
from tiny.clips import clip_row

from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.plan.cycling import CyclingPlan
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.training.dit.config import CachedPlan, DiTStage
from kinetoscope.training.dit.plan import dit_plan

LOOP = {"num_steps": 1, "optimizer": {"lr": 0.001}}


def _table(num_clips: int) -> ClipTable:
    return ClipTable.from_rows(
        clip_row(number, num_frames=20 + number % 7, height=64, width=64)
        for number in range(num_clips)
    )


@pytest.fixture
def cycling() -> CyclingPlan:
    cached = CachedPlan.model_validate(
        {
            "buckets": {
                "buckets": [
                    {
                        "resolution": {"height": 32, "width": 32},
                        "num_frames": frames,
                        "length_probability": share,
                        "batch_size": 4,
                    }
                    for frames, share in ((17, 0.5), (9, 1.0))
                ]
            },
            "micro_batches_per_step": 2,
            "cost_ranks": [1, 0],
        }
    )
    plan = dit_plan(_table(60), cached, seed=1)
    return CyclingPlan(plan, num_draws=2, seed=1)


def _windows(cycling: CyclingPlan, epoch: int) -> list[tuple[int, int, int]]:
    return sorted(
        (item.clip, item.start_frame, batch.bucket.num_frames)
        for step in cycling.epoch(epoch)
        for batch in step.micro_batches
        for item in batch.items
    )


def test_later_epochs_hold_the_windows_of_their_draw(cycling: CyclingPlan) -> None:
    assert _windows(cycling, 2) == _windows(cycling, 4) == _windows(cycling, 0)
    assert _windows(cycling, 3) == _windows(cycling, 1)
    assert _windows(cycling, 1) != _windows(cycling, 0)


def test_later_epochs_put_samples_in_new_company(cycling: CyclingPlan) -> None:
    assert list(cycling.epoch(2)) != list(cycling.epoch(0))
    assert list(cycling.epoch(2)) != list(cycling.epoch(4))
    assert list(cycling.epoch(2)) == list(cycling.epoch(2))


def test_later_epochs_keep_the_shape_of_every_step_and_unique_indices(
    cycling: CyclingPlan,
) -> None:
    first, later = cycling.epoch(0), cycling.epoch(2)
    for before, after in zip(first, later, strict=True):
        assert [batch.bucket for batch in before.micro_batches] == [
            batch.bucket for batch in after.micro_batches
        ]
    indices = [i.index for step in later for batch in step.micro_batches for i in batch.items]
    assert len(set(indices)) == len(indices)


def test_a_position_one_past_the_end_is_the_next_epoch(cycling: CyclingPlan) -> None:
    length = len(cycling.epoch(0))
    epoch, place, _ = next(cycling.steps_from(0, length))
    assert (epoch, place) == (1, 0)
    straight = list(islice(cycling.steps_from(), 3 * length))
    assert straight[length + 1 :] == list(islice(cycling.steps_from(1, 1), 2 * length - 1))


def _stage(*batch_sizes: int) -> DiTStage:
    frames = (17, 34, 51)
    buckets = [
        {
            "resolution": {"height": 256, "width": 256},
            "num_frames": num_frames,
            "length_probability": 1.0,
            "batch_size": size,
        }
        for num_frames, size in zip(frames, batch_sizes, strict=True)
    ]
    return DiTStage.model_validate({"plan": {"buckets": buckets}, "loop": LOOP})


def test_buckets_rank_by_what_their_batches_cost_the_transformer() -> None:
    vae, model = VideoVAEConfig(), STDiTConfig()
    assert _stage(1, 1, 1).plan_for(model, vae).cost_ranks == (0, 1, 2)
    assert _stage(9, 3, 1).plan_for(model, vae).cost_ranks == (2, 1, 0)


def test_equal_costs_share_a_rank() -> None:
    class PerFrame(STDiTConfig):
        def flops(self, latent_size: tuple[int, int, int]) -> float:
            return float(latent_size[0])

    cached = _stage(6, 3, 2).plan_for(PerFrame(), VideoVAEConfig())
    assert cached.cost_ranks == (0, 0, 0)


def test_a_larger_model_of_its_kind_reads_the_same_cache() -> None:
    vae = VideoVAEConfig()
    small, large = STDiTConfig(depth=2), STDiTConfig(depth=28)
    assert _stage(4, 2, 1).plan_for(small, vae) == _stage(4, 2, 1).plan_for(large, vae)
