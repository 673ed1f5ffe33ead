"""The loss grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.evaluation.config import RFLossConfig
from kinetoscope.evaluation.rf_loss import grid_metrics, interior_times, rf_loss_grid
from kinetoscope.evaluation.trained_model import trained_bundle
from kinetoscope.inference.bundle import Bundle
from kinetoscope.inference.config import ClipSize, GenerationConfig
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.models.base import build_transformer
from kinetoscope.models.device import ON_CPU, Compute

Loaded = tuple[Bundle, ClipTable]


@pytest.fixture
def loaded(finished_training: Any, models: GenerationConfig) -> Loaded:
    ctx = finished_training.context("evaluate_dit", models)
    table = open_clips(ctx.inputs["clips"], ctx.videos)
    return trained_bundle(ctx.inputs, table, models), table


def test_times_are_the_references() -> None:
    times = interior_times(10) * 1000
    assert times[[0, -1]].tolist() == pytest.approx([90.909, 909.091], abs=1e-3)
    assert len(times) == 10


def test_a_model_that_predicts_nothing_has_the_velocitys_energy_as_loss(loaded: Loaded) -> None:
    bundle, table = loaded
    idle = build_transformer(bundle.spec.dit).state_dict()
    for name in ("weight", "bias"):
        idle[f"final_layer.linear.{name}"].zero_()
    models = TextToVideo(Bundle(bundle.spec, bundle.vae, idle))
    (cell,) = rf_loss_grid(models, table, RFLossConfig(sizes=(ClipSize(num_frames=5),)), seed=1)
    # Each time has noise of its own, so the energy of x0 - noise differs a little between them.
    assert cell.clips == 3
    assert min(cell.loss_by_time) > 0.5
    assert max(cell.loss_by_time) / min(cell.loss_by_time) < 1.2


def test_the_grid_hardly_depends_on_the_precision(loaded: Loaded) -> None:
    bundle, table = loaded
    config = RFLossConfig(sizes=(ClipSize(num_frames=5),))
    losses = [
        rf_loss_grid(TextToVideo(bundle, compute), table, config, seed=1)[0].mean
        for compute in (ON_CPU, Compute(torch.device("cpu"), "bf16"))
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_batches_do_not_change_the_losses_and_too_long_sizes_are_left_out(loaded: Loaded) -> None:
    bundle, table = loaded
    models = TextToVideo(bundle)
    sizes = (
        ClipSize(num_frames=5),
        ClipSize(num_frames=1, height=24, width=16),
        ClipSize(num_frames=17),
    )
    grids = [
        rf_loss_grid(models, table, RFLossConfig(sizes=sizes, batch_size=size), seed=1)
        for size in (1, 3)
    ]
    metrics = [grid_metrics(grid) for grid in grids]
    assert metrics[0].keys() == {"rf_loss.5x32x32", "rf_loss.1x24x16", "rf_loss.mean"}
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4)
    torch.testing.assert_close(
        grids[0][0].loss_by_time, grids[1][0].loss_by_time, rtol=1e-4, atol=1e-5
    )
