"""bf16: in which dtype tokens travel, what is kept of them, and how far the result is off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.models import random_transformer, transformer_inputs
from torch import Tensor

from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer
from kinetoscope.parity.checks.stdit import stdit_inputs
from kinetoscope.parity.golden import read_golden

GOLDEN = Path(__file__).parents[3] / "golden" / "reference"
MASKS = {
    "text_mask_BS": torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1]]),
    "frame_mask_Bt": torch.tensor([[False, True, True], [True, True, True]]),
    "drop_text_B": torch.tensor([True, False]),
}
REFERENCE_ERRORS = {
    ("stdit3_main", "video"): (0.00979, 0.01654),
    ("stdit3_main", "video_xmask"): (0.00924, 0.01605),
    ("stdit3_main", "image_odd"): (0.00968, 0.01505),
    ("stdit3_main", "hw_fps"): (0.00885, 0.01520),
    ("stdit3_main", "cfg_mask_repeat"): (0.00951, 0.01982),
    ("stdit3_main", "no_text_mask"): (0.00952, 0.01669),
    ("stdit3_variant", "video"): (0.00806, 0.01495),
    ("stdit3_variant", "video_xmask_odd"): (0.00932, 0.01620),
}
"""Of Open-Sora 1.2's own model in bf16 against itself in fp32 (CPU; times and sizes that bf16
holds): of the output, and of the gradient of its mean square with respect to the latents, in
norm."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _stream(model: STDiT) -> Iterator[list[Tensor]]:
    """Gather what goes into the first block and comes out of each."""
    seen: list[Tensor] = []
    units = list(model.units())
    hooks = [
        units[0].register_forward_pre_hook(lambda _unit, given: seen.append(given[0])),
        *(
            unit.register_forward_hook(lambda _unit, _given, out: seen.append(out))
            for unit in units
        ),
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("masks", [{}, MASKS], ids=["plain", "masks"])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_the_residual_stream_is_bf16(
    weights: torch.dtype, masks: dict[str, Tensor], checkpointing: str
) -> None:
    model = random_transformer(activation_checkpointing=checkpointing).to(weights)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=weights is torch.float32),
        _stream(model) as seen,
    ):
        output = model(**transformer_inputs(), **masks)
    assert [x.dtype for x in seen] == [torch.bfloat16] * 5
    assert output.dtype is torch.float32
    output.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_full_precision_stays_full() -> None:
    model = random_transformer().double()
    inputs = {name: value.double() for name, value in transformer_inputs().items()}
    with torch.no_grad(), _stream(model) as seen:
        model(**inputs)
    assert {x.dtype for x in seen} == {torch.float64}


def test_no_float32_copy_of_the_tokens_is_kept() -> None:
    # Only GPUs have an RMS norm in one kernel; on CPUs it is put together from float32 products.
    model = random_transformer(qk_norm=False)
    tokens = 2 * 3 * 6 * 32
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        model(**transformer_inputs())
    large = [x for x in kept if x.numel() >= tokens // 2 and not isinstance(x, torch.nn.Parameter)]
    assert len(large) > 50
    float32 = [tuple(x.shape) for x in large if x.dtype is torch.float32]
    assert not float32


def _run(model: STDiT, inputs: dict[str, Any], *, autocast: bool) -> tuple[Tensor, Tensor]:
    x = inputs["x_BZthw"].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(**{**inputs, "x_BZthw": x})
    output.square().mean().backward()
    assert x.grad is not None
    return output.detach(), x.grad


def _error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize(("name", "case"), REFERENCE_ERRORS)
def test_bf16_is_no_farther_off_than_the_reference(name: str, case: str) -> None:
    golden = read_golden(GOLDEN, f"{name}.safetensors", {})
    given = dict(golden.inputs(case))
    for rounded in ("timestep", "fps", "height", "width"):
        given[rounded] = given[rounded].bfloat16().float()
    inputs = stdit_inputs(given, packed=False)
    model = load_open_sora_transformer(golden.weights, golden.config["model"])
    exact = _run(model, inputs, autocast=False)
    under_autocast = _run(model, inputs, autocast=True)
    with_weights = _run(model.to(torch.bfloat16), inputs, autocast=False)
    for actual in (under_autocast, with_weights):
        for ours, theirs, limit in zip(actual, exact, REFERENCE_ERRORS[name, case], strict=True):
            assert 0 < _error(ours, theirs) <= limit
