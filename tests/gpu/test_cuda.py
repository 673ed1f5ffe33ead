"""Packed text on a GPU, in one kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kinetoscope.models.layers.packed_text import attend_jagged, attend_to_packed

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(5, 300, 31), (0, 7, 9), (4, 4, 4)])
def test_packed_text_attention_is_the_same_in_one_kernel(
    device: torch.device,
    check_agreement: Callable[..., None],
    dtype: torch.dtype,
    lengths: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 50, 72), *2 * ((sum(lengths), 4, 72),))
    q, k, v = (torch.randn(*shape, generator=generator).to(dtype).float() for shape in shapes)
    results = []
    for attend, place, precision in (
        (attend_to_packed, torch.device("cpu"), torch.float32),
        (attend_jagged, device, dtype),
    ):
        inputs = [x.detach().to(place, precision).requires_grad_() for x in (q, k, v)]
        attended = attend(inputs[0], inputs[1], inputs[2], lengths)
        attended.float().square().sum().backward()
        results.append([attended, *(x.grad for x in inputs)])
    expected, actual = (dict(zip("oqkv", found, strict=True)) for found in results)
    check_agreement(actual, expected, 1e-4 if dtype is torch.float32 else 2e-2)
