"""Packed text on a GPU, in one kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kinetoscope.models.layers.packed_attention import attend_to_packed

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [72, 12])
@pytest.mark.parametrize("lengths", [(5, 300, 31), (1, 7, 9), (4, 4, 4)])
def test_packed_text_attention_is_the_same_in_one_kernel(
    device: torch.device,
    check_agreement: Callable[..., None],
    dtype: torch.dtype,
    lengths: tuple[int, ...],
    width: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Rows behind the last sample's are nobody's.
    shapes = ((3, 50, 4, width), *2 * ((512, 4, width),))
    used, ends = sum(lengths), torch.tensor([0, *lengths]).cumsum(0).int()
    q, k, v = (torch.randn(*shape, generator=generator).to(dtype).float() for shape in shapes)
    results = []
    for place, precision in ((torch.device("cpu"), torch.float32), (device, dtype)):
        inputs = [x.detach().to(place, precision).requires_grad_() for x in (q, k, v)]
        attended = attend_to_packed(inputs[0], inputs[1], inputs[2], ends.to(place), 300)
        attended.float().square().sum().backward()
        grad_q, *grads_kv = (x.grad for x in inputs if x.grad is not None)
        results.append([attended, grad_q, *(grad[:used] for grad in grads_kv)])
    expected, actual = (dict(zip("oqkv", found, strict=True)) for found in results)
    check_agreement(actual, expected, 1e-4 if dtype is torch.float32 else 2e-2)
