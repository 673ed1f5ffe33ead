"""Where and how exactly a process computes; no GPU is needed to decide it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kinetoscope.models.config import Precision, PrecisionSetting
from kinetoscope.models.device import Compute, allow_tf32, begin_computing, chosen_precision


@pytest.fixture(autouse=True)
def tf32_as_before() -> Iterator[None]:
    before = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def tf32() -> tuple[bool, bool]:
    """Return whether matrix products and convolutions may round."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("device_type", "precision"), [("cuda", "bf16"), ("cpu", "fp32")])
def test_auto_is_half_precision_on_gpus_alone(device_type: str, precision: Precision) -> None:
    assert chosen_precision("auto", device_type) == precision


@pytest.mark.parametrize("setting", ["bf16", "tf32", "fp32"])
def test_what_is_asked_for_is_what_is_computed_in(setting: Precision) -> None:
    assert chosen_precision(setting, "cuda") == chosen_precision(setting, "cpu") == setting


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_one_decision_for_products_and_convolutions(allowed: bool) -> None:
    allow_tf32(allowed)
    assert tf32() == (allowed, allowed)


@pytest.mark.parametrize(("setting", "allowed"), [("bf16", True), ("tf32", True), ("fp32", False)])
def test_a_process_that_computes_exactly_rounds_nowhere(
    setting: PrecisionSetting, allowed: bool
) -> None:
    allow_tf32(not allowed)
    begin_computing(setting)
    assert tf32() == (allowed, allowed)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16", torch.bfloat16), ("tf32", torch.float32), ("fp32", torch.float32)],
)
def test_layers_give_on_the_dtype_of_the_precision(
    precision: Precision, dtype: torch.dtype
) -> None:
    compute = Compute(torch.device("cpu"), precision)
    layer = torch.nn.Linear(2, 2)
    with compute.autocast():
        assert layer(torch.ones(1, 2)).dtype == compute.dtype == dtype
