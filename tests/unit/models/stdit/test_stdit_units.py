"""What STDiT says of itself: its operations, and the parts that are called once each."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kinetoscope.models.stdit.config import STDIT_XL_2, STDiTConfig
from kinetoscope.models.stdit.model import STDiT

CONFIG = STDiTConfig(
    depth=2, width=64, num_heads=4, text_width=48, max_text_tokens=20, input_sq_size=32
)


def run(model: STDiT, latent_size: tuple[int, int, int], *, text_tokens: int = 20) -> None:
    batch = torch.ones(1)
    with torch.no_grad():
        model(
            torch.randn(1, 4, *latent_size),
            batch,
            torch.randn(1, text_tokens, 48),
            height_B=batch,
            width_B=batch,
            fps_B=batch,
        )


@pytest.mark.parametrize("latent_size", [(1, 8, 8), (5, 16, 12), (9, 6, 10)])
def test_flops_are_those_that_torch_counts(latent_size: tuple[int, int, int]) -> None:
    model = STDiT(CONFIG).eval()
    with FlopCounterMode(display=False) as counter:
        run(model, latent_size)
    # Times and sizes have a few rows; the formula leaves them out.
    assert CONFIG.flops(latent_size) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_the_released_size_costs_what_its_parameters_suggest() -> None:
    # 2 operations per weight and token, but for what the text alone goes through; then attention.
    tokens = 15 * 15 * 27
    per_token = STDIT_XL_2.flops((15, 30, 54)) / tokens
    assert 1.6e9 < per_token < 2.4e9


@pytest.mark.parametrize("latent_size", [(1, 4, 4), (3, 5, 7)])
def test_a_forward_pass_calls_each_unit_once_in_order(latent_size: tuple[int, int, int]) -> None:
    model = STDiT(CONFIG).eval()
    units = list(model.units())
    called: list[int] = []
    for number, unit in enumerate(units):
        unit.register_forward_pre_hook(lambda *_, number=number: called.append(number))
    run(model, latent_size)
    assert len(units) == 2 * CONFIG.depth
    assert called == list(range(len(units)))
