"""The reference's bf16 runs round times, sizes and frequencies; the released weights know it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import torch
from tiny.models import random_transformer
from torch import Tensor

from kinetoscope.models.layers.attention import RotaryEmbedding, rotate
from kinetoscope.models.layers.embeddings import spatial_positions
from kinetoscope.models.stdit.model import STDiT


def _bf16(value: float) -> float:
    """Round to the upper half of a float32's bits, halves to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    bits += 0x7FFF + (bits >> 16 & 1)
    rounded: float = struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0]
    return rounded


def _run(model: STDiT, **changes: float) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    given = {"timestep_B": 640.0, "height_B": 480.0, "width_B": 848.0, "fps_B": 24.0, **changes}
    arguments: dict[str, Any] = {key: torch.tensor([value]) for key, value in given.items()}
    x, text = torch.randn(1, 4, 1, 4, 6, generator=draws), torch.randn(1, 6, 12, generator=draws)
    with torch.no_grad():
        output: Tensor = model(x, text_BSD=text, **arguments)
    return output


def test_the_rounding_by_hand_is_right() -> None:
    assert [_bf16(x) for x in (999.0, 854.0, 29.97, 0.1)] == [1000.0, 856.0, 30.0, 0.10009765625]


@pytest.mark.parametrize(
    ("name", "value", "rounded"),
    [
        ("timestep_B", 999.0, 1000.0),
        ("width_B", 854.0, 856.0),
        ("height_B", 1067.0, 1064.0),
        ("fps_B", 29.97, 30.0),
    ],
)
def test_times_and_sizes_are_rounded_on_request_alone(
    name: str, value: float, rounded: float
) -> None:
    assert _bf16(value) == rounded
    for rounding in ("bfloat16", "exact"):
        model = random_transformer(depth=1, rounding=rounding)
        same = torch.equal(_run(model, **{name: value}), _run(model, **{name: rounded}))
        assert same is (rounding == "bfloat16")


def test_rotary_angles_are_the_reference_s() -> None:
    rounded, exact = RotaryEmbedding(72, bf16_angles=True), RotaryEmbedding(72)
    for rope in (rounded, exact):
        rope.reset_parameters()
    cos, sin = rounded(120)
    for position, pair in ((7, 0), (100, 1), (119, 3), (119, 20)):
        frequency = 10000 ** (-2 * pair / 72)
        angle = torch.tensor(_bf16(position * _bf16(frequency)))
        torch.testing.assert_close(cos[position, pair], angle.cos())
        torch.testing.assert_close(sin[position, pair], angle.sin())
        plain = torch.tensor(position * frequency)
        torch.testing.assert_close(exact(120)[0][position, pair], plain.cos(), atol=1e-5, rtol=0)
    q = torch.randn(120, 72, generator=torch.Generator().manual_seed(0))
    deviation = (rotate(q, cos, sin) - rotate(q, *exact(120))).abs()
    assert 0.5 < deviation.max() < 0.9
    assert deviation[:15].max() < 0.1


def test_positions_deviate_as_the_reference_s() -> None:
    scale = torch.tensor(480.0 * 856.0).sqrt() / 512
    exact, rounded = (
        spatial_positions(
            (30, 53), 1152, scale=scale, device=torch.device("cpu"), bf16_frequencies=on
        )
        for on in (False, True)
    )
    assert (rounded - exact).abs().max().item() == pytest.approx(0.057, abs=0.002)
    # Column 52 at frequency 5, sine: channel 5 of the column's half.
    coordinate = 52 / scale.item() * (round((30 * 53) ** 0.5) / 53)
    expected = torch.tensor(coordinate * _bf16(10000 ** (-5 / 288))).sin()
    torch.testing.assert_close(rounded[52, 5], expected, atol=1e-5, rtol=0)


def test_half_precision_weights_keep_exact_angles_unless_asked() -> None:
    exact = RotaryEmbedding(72)
    exact.reset_parameters()
    before = exact(50)[0]
    assert torch.equal(exact.to(torch.bfloat16)(50)[0], before)
