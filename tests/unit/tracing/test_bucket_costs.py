"""A table of all buckets, from a config alone."""

from __future__ import annotations

import json

import pytest

from kinetoscope.config.load import load_config
from kinetoscope.data.plan.config import BucketConfig
from kinetoscope.models.text.config import T5Config
from kinetoscope.tracing.__main__ import main
from kinetoscope.tracing.stages import bucket_costs, largest_size, text_encoder_bytes


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


def test_of_a_resolutions_sizes_that_with_most_pixels_counts() -> None:
    bucket = BucketConfig(resolution="240p", num_frames=51, batch_size=20)
    assert largest_size(bucket, (16, 16)) == (51, 320, 320)


def test_t5_xxl_has_its_published_number_of_weights() -> None:
    config = T5Config(kind="t5", path="nowhere", width=4096, max_tokens=300)
    assert text_encoder_bytes(config) / 2 == pytest.approx(4.76e9, rel=1e-3)
