"""A table of all buckets, from a config alone."""

from __future__ import annotations

import json

import pytest
import torch

from kinetoscope.config.load import load_config
from kinetoscope.data.plan.config import BucketConfig
from kinetoscope.models.conv import fused_conv
from kinetoscope.models.text.config import T5Config
from kinetoscope.tracing.__main__ import main
from kinetoscope.tracing.stages import bucket_costs, largest_size, text_encoder_bytes
from kinetoscope.tracing.step import fake_tensors
from kinetoscope.tracing.tracker import Tracker


def test_each_distinct_bucket_of_the_transformers_stages_has_a_row() -> None:
    config = load_config("smoke").config
    costs = bucket_costs(config, "train_dit")
    planned = {
        (bucket.resolution_name, bucket.num_frames, bucket.batch_size)
        for stage in config.train_dit
        for bucket in stage.plan.buckets
    }
    assert {(c.resolution, c.size[0], c.batch_size) for c in costs} == planned
    for cost in costs:
        assert cost.peak.bytes_by_kind["weights"] > 0
        assert cost.peak.total_bytes > cost.peak.bytes_by_kind["weights"]
        assert cost.flops > 0


def test_the_exit_code_says_whether_all_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--only", "train_dit", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["fits"] for row in rows)
    assert main(["smoke", "--only", "train_dit", "--limit-gib", "3.0001"]) == 1
    assert "| NO " in capsys.readouterr().out
    assert main(["nowhere"]) == 2
    assert main(["smoke", "--only", "train_dit.7"]) == 2
    assert "it has: train_vae.0" in capsys.readouterr().err
    assert main(["smoke", "--only", "train_dit.0", "--set", "train_dit.0.loop.dtype=tf32"]) == 0


def test_ranks_that_share_samples_have_half_of_what_tokens_take() -> None:
    overrides = ["runtimes.training.num_processes=2"]
    alone, shared = (
        bucket_costs(load_config("smoke", [*overrides, *more]).config, "train_dit.0")
        for more in ([], ["train_dit.0.sequence_parallel=2"])
    )
    for one, two in zip(alone, shared, strict=True):
        assert (one.ranks, two.ranks) == (1, 2)
        assert two.num_tokens == one.num_tokens
        assert two.peak.bytes_by_kind["optimizer"] == one.peak.bytes_by_kind["optimizer"]
        assert 0.4 * one.flops < two.flops < 0.7 * one.flops
        made = [
            sum(cost.peak.bytes_by_kind[kind] for kind in ("activations", "temporaries"))
            for cost in (one, two)
        ]
        assert 0.4 * made[0] < made[1] < 0.8 * made[0]


def test_group_norm_takes_the_way_of_gpus() -> None:
    before = fused_conv.native_norm_keeps_channels_last
    with fake_tensors(), Tracker() as tracker:
        tracker.begin("activations")
        x = torch.empty(2, 8, 16, 16).to(memory_format=torch.channels_last)
        fused_conv.group_norm(x, torch.nn.GroupNorm(2, 8))
        assert tracker.peak.operator != "native_group_norm"
        assert not fused_conv.native_norm_keeps_channels_last("cpu")
        assert not fused_conv.products_sum_exactly("cpu")
    assert fused_conv.native_norm_keeps_channels_last is before


def test_of_a_resolutions_sizes_that_with_most_pixels_counts() -> None:
    bucket = BucketConfig(resolution="240p", num_frames=51, batch_size=20)
    assert largest_size(bucket, (16, 16)) == (51, 320, 320)


def test_t5_xxl_has_its_published_number_of_weights() -> None:
    config = T5Config(kind="t5", path="nowhere", width=4096, max_tokens=300)
    for dtype, size in ((torch.bfloat16, 2), (torch.float32, 4)):
        assert text_encoder_bytes(config, dtype) / size == pytest.approx(4.76e9, rel=1e-3)
