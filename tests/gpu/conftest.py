"""The device of these tests: the GPU, or one that a variable names to check the tests themselves.

Imports no more than a bare GPU machine has: pytest, torch and what ``make wheelhouse`` gathers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

VARIABLE = "KINO_TEST_GPU_DEVICE"


@pytest.fixture
def device() -> torch.device:
    """Where the tested side of each comparison runs."""
    return torch.device(os.environ.get(VARIABLE, "cuda"))


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Keep TF32 out: what is compared in float32 is to be equal."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    yield
    products.allow_tf32, convolutions.allow_tf32 = before


@pytest.fixture
def check_agreement() -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor], float], None]:
    """Compares tensors by name: the norm of each difference is a share of what is expected."""

    def check(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], share: float) -> None:
        assert actual.keys() == expected.keys()
        off = {}
        for name, wanted in expected.items():
            wanted = wanted.detach().cpu().float()
            error = (actual[name].detach().cpu().float() - wanted).norm()
            # Written so that NaN is off.
            if not error <= share * wanted.norm():
                off[name] = float(error / wanted.norm())
        assert off == {}

    return check


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where there is no GPU, saying so."""
    if torch.cuda.is_available() or VARIABLE in os.environ:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
