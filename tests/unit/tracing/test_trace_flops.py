"""Operations of a traced step: as formulas have them, and as torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.tracing.flow import FlowTracer
from kinetoscope.tracing.step import fake_tensors
from kinetoscope.tracing.tracker import Tracker
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.loop.config import TrainLoopConfig

TINY = STDiTConfig(depth=2, width=32, num_heads=4, text_width=16, max_text_tokens=12)


def test_linear_layers_take_twice_the_product_of_their_sizes() -> None:
    layer, x = nn.Linear(48, 64), torch.randn(5, 48, requires_grad=True)
    with Tracker() as tracker:
        y = layer(x)
        forward = tracker.flops
        y.sum().backward()
    assert forward == 2 * 5 * 48 * 64
    assert tracker.flops == 3 * forward


def test_attention_takes_two_products_and_four_backward() -> None:
    q, k, v = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (7, 5, 5))
    with Tracker() as tracker:
        attended = functional.scaled_dot_product_attention(q, k, v)
        forward = tracker.flops
        attended.sum().backward()
    assert forward == 2 * (2 * 2 * 3 * 7 * 5 * 8)
    assert tracker.flops == 3 * forward


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_take_a_product_for_each_element_and_tap(stride: int) -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, stride=stride)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    with Tracker() as tracker:
        y = layer(x)
        forward = tracker.flops
        y.sum().backward()
    assert forward == 2 * y.numel() * 4 * 9
    assert tracker.flops == 3 * forward


def test_torch_counts_the_same_of_a_real_vae() -> None:
    spatial = SpatialVAE(
        SpatialVAEConfig(block_widths=(8, 16), layers_per_block=1, norm_groups=4, latent_channels=4)
    )
    temporal = TemporalVAE(TemporalVAEConfig(base_width=8, num_res_blocks=1, norm_groups=4))
    with FlopCounterMode(display=False) as counter, Tracker() as tracker:
        z = spatial.encode(torch.randn(2, 3, 16, 16)).mean
        spatial.decode(z).sum().backward()
        temporal.moments(torch.randn(1, 4, 5, 4, 4)).sum().backward()
    assert tracker.flops == pytest.approx(counter.get_total_flops(), rel=0.02)


def step_flops(model: STDiTConfig, latents: tuple[int, int, int], batch_size: int) -> float:
    """Return the operations of a step in which nothing is computed again."""
    kept = model.model_copy(update={"activation_checkpointing": "none"})
    loop = TrainLoopConfig(num_steps=1, optimizer=OptimizerConfig(lr=1e-4))
    with fake_tensors():
        trace = FlowTracer(kept, RectifiedFlowConfig(), loop).trace(latents, batch_size)
    return trace.forward_flops + trace.backward_flops


def test_a_step_takes_three_forward_passes_without_what_is_computed_again() -> None:
    latents = (3, 8, 6)
    expected = 3 * 2 * TINY.flops(latents)
    deep = TINY.model_copy(update={"activation_checkpointing": "full"})
    assert step_flops(TINY, latents, 2) == pytest.approx(expected, rel=0.02)
    assert step_flops(deep, latents, 2) == step_flops(TINY, latents, 2)


def test_depth_is_extrapolated_exactly() -> None:
    shallow = [step_flops(TINY.model_copy(update={"depth": n}), (2, 4, 4), 1) for n in (2, 3)]
    deep = step_flops(TINY.model_copy(update={"depth": 10}), (2, 4, 4), 1)
    assert deep == pytest.approx(shallow[0] + 8 * (shallow[1] - shallow[0]))


def test_the_whole_depth_takes_what_is_extrapolated() -> None:
    model = TINY.model_copy(update={"depth": 5, "activation_checkpointing": "full"})
    loop = TrainLoopConfig(num_steps=1, optimizer=OptimizerConfig(lr=1e-4))
    with fake_tensors():
        extrapolated, whole = (
            FlowTracer(model, RectifiedFlowConfig(), loop, whole=whole).trace((3, 8, 6), 2)
            for whole in (False, True)
        )
    for phase in ("forward", "backward"):
        assert extrapolated.peaks[phase].bytes_by_kind == whole.peaks[phase].bytes_by_kind
    assert extrapolated.forward_flops == pytest.approx(whole.forward_flops)
    assert extrapolated.backward_flops == pytest.approx(whole.backward_flops)
