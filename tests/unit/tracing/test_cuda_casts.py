"""What the traced autocast casts: CUDA's lists, on CPU tensors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from kinetoscope.tracing.cuda_casts import FLOAT32, FLOAT32_RESULT, WIDEST, casts_of_cuda

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
BF16, FP32 = torch.bfloat16, torch.float32


def _listed(macro: str) -> set[str]:
    body = re.search(rf"#define {macro}\(_\)((?:.*\\\n)+.*)", HEADER.read_text())
    assert body is not None
    entries = re.findall(r"_\((\w+)(?:, (\w+))?\)", body.group(1))
    return {".".join(filter(None, entry)) for entry in entries}


@pytest.mark.skipif(torch.__version__ < "2.15", reason="the lists are those of torch 2.15")
@pytest.mark.parametrize(
    ("macro", "names"),
    [
        ("AT_FORALL_FP32", FLOAT32),
        ("AT_FORALL_FP32_SET_OPT_DTYPE", FLOAT32_RESULT),
        ("AT_FORALL_PROMOTE", WIDEST),
    ],
)
def test_the_lists_are_torchs(macro: str, names: tuple[str, ...]) -> None:
    assert set(names) == _listed(macro)


def test_norms_and_powers_are_float32_and_products_bfloat16() -> None:
    x = torch.randn(4, 16, dtype=BF16)
    with casts_of_cuda(), torch.autocast("cpu", BF16):
        assert functional.layer_norm(x, (16,)).dtype == FP32
        assert functional.rms_norm(x, (16,)).dtype == FP32
        assert x.square().dtype == FP32
        assert x.sum().dtype == FP32
        assert x.softmax(-1).dtype == FP32
        assert (x + x).dtype == BF16
        assert functional.gelu(x).dtype == BF16
        assert functional.linear(x.float(), torch.randn(8, 16)).dtype == BF16


def test_the_widest_type_wins_where_types_meet() -> None:
    low, high = torch.randn(8, dtype=BF16), torch.randn(8)
    with casts_of_cuda(), torch.autocast("cpu", BF16):
        assert torch.addcmul(low, low, low).dtype == BF16
        assert torch.addcmul(low, low, high).dtype == FP32


def test_nothing_is_cast_outside_autocast_or_afterwards() -> None:
    x = torch.randn(4, 16, dtype=BF16)
    with casts_of_cuda():
        assert functional.layer_norm(x, (16,)).dtype == BF16
    with torch.autocast("cpu", BF16):
        assert x.square().dtype == BF16


def test_gradients_pass_through_the_casts() -> None:
    x = torch.randn(4, 16, dtype=BF16, requires_grad=True)
    with casts_of_cuda(), torch.autocast("cpu", BF16):
        functional.layer_norm(x, (16,)).square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == BF16
