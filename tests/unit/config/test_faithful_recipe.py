"""The recipe open-sora-1.2 holds the reference's numbers, and its models can be built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinetoscope.config.load import load_config
from kinetoscope.config.run import RunConfig
from kinetoscope.models.base import build_autoencoder, build_transformer


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """Return the recipe, resolved."""
    return load_config("open-sora-1.2").config


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_its_models_are_built_on_the_meta_device_at_their_published_sizes(
    config: RunConfig,
) -> None:
    with torch.device("meta"):
        dit, vae = build_transformer(config.models.dit), build_autoencoder(config.models.vae)
    assert _num_parameters(vae) == 393_341_007
    assert _num_parameters(dit) == 1_207_643_972
    assert dit.state_dict()["final_layer.linear.weight"].is_meta


def test_its_stages_train_as_long_as_the_report_says(config: RunConfig) -> None:
    assert [stage.loop.num_steps for stage in config.train_vae] == [380_000, 260_000, 540_000]
    assert [stage.loop.num_steps for stage in config.train_dit] == [30_000, 23_000, 15_000]
    assert [stage.identity_loss for stage in config.train_vae] == [True, False, False]
    assert [stage.freeze_spatial for stage in config.train_vae] == [True, True, False]
    assert {stage.loop.optimizer.eps for stage in config.train_dit} == {1e-15}
    assert [stage.loop.schedule.warmup_steps for stage in config.train_dit] == [1000, 0, 1000]


def test_its_buckets_are_the_published_ones(config: RunConfig) -> None:
    stage1, stage2, stage3 = (
        {
            (bucket.resolution_name, bucket.num_frames): (
                bucket.keep_probability,
                bucket.length_probability,
                bucket.batch_size,
            )
            for bucket in stage.plan.buckets
        }
        for stage in config.train_dit
    )
    assert stage1["144p", 1] == (1.0, 1.0, 475)
    assert stage1["240p", 408] == (0.4, 0.1, 2)
    assert stage2["360p", 102] == (0.3, 0.5, 4)
    assert stage3["720p", 51] == (0.2, 1.0, 2)
    assert stage3["720p", 204][0] == 0.0, "a blocker"


def test_its_longest_clips_are_shared_by_two_gpus(config: RunConfig) -> None:
    assert [stage.sequence_parallel for stage in config.train_dit] == [1, 1, 2]
    assert config.runtimes.training.num_ranks == 8


def test_its_stages_condition_on_frames_as_often_as_the_published_ones(config: RunConfig) -> None:
    stage1, stage2, stage3 = (stage.frame_masks for stage in config.train_dit)
    assert stage1 == stage2
    assert sum(stage1.values()) == pytest.approx(0.2)
    assert sum(stage3.values()) == pytest.approx(0.25)
    assert (stage1["random"], stage1["image_head"], stage1["interpolate"]) == (0.05, 0.05, 0.005)
    assert (stage3["image_head"], stage3["image_random"], stage3["quarter_tail"]) == (
        0.22,
        0,
        0.002,
    )
    assert len(stage1) == len(stage3) == 10
