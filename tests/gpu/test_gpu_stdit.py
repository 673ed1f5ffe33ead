"""The transformer on a GPU: texts of any length, frame masks, every kind of checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes
from kinetoscope.diffusion.sampler import sample, sampling_schedule
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT

pytestmark = pytest.mark.gpu

TOKENS = 20
CONFIG = STDiTConfig(
    depth=1, width=144, num_heads=2, text_width=32, max_text_tokens=TOKENS, input_sq_size=32
)
# With samples that have no text at all, among others and on their own.
LENGTHS = [(TOKENS,) * 3, (4, 4, 4), (1, TOKENS, 7), (0, 5, 0), (0, 0, 0)]


def _model(checkpointing: Literal["none", "selective", "full"] = "none") -> STDiT:
    torch.manual_seed(0)
    model = STDiT(CONFIG.model_copy(update={"activation_checkpointing": checkpointing}))
    for parameter in model.parameters():
        # Temporal blocks would add nothing: they start with zeros.
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter.data, std=parameter.shape[-1] ** -0.5)
    return model


def _inputs(lengths: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    count = len(lengths)
    frame_mask = torch.ones(count, 5, dtype=torch.bool)
    frame_mask[0, 0] = False
    return {
        "x_BZthw": torch.randn(count, CONFIG.in_channels, 5, 7, 8, generator=generator),
        "timestep_B": torch.linspace(100, 900, count),
        "text_BSD": torch.randn(count, TOKENS, CONFIG.text_width, generator=generator),
        "text_mask_BS": torch.arange(TOKENS) < torch.tensor(lengths)[:, None],
        "height_B": torch.full((count,), 56.0),
        "width_B": torch.full((count,), 64.0),
        "fps_B": torch.full((count,), 24.0),
        "frame_mask_Bt": frame_mask,
        "drop_text_B": torch.arange(count) == 1,
    }


def _run(model: STDiT, inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the prediction and all gradients."""
    model.zero_grad(set_to_none=True)
    x = inputs["x_BZthw"].clone().requires_grad_()
    with torch.autocast(x.device.type, dtype, enabled=dtype is not torch.float32):
        out = model(**{**inputs, "x_BZthw": x})
    out.square().mean().backward()
    assert x.grad is not None
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    found = {"out": out, "grad": x.grad, **gradients}
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_prediction_and_its_gradients_are_those_of_the_cpu(
    device: torch.device,
    check_agreement: Callable[..., None],
    lengths: tuple[int, ...],
    dtype: torch.dtype,
    share: float,
) -> None:
    model, inputs = _model(), _inputs(lengths)
    expected = _run(model, inputs, torch.float32)
    on_device = {name: value.to(device) for name, value in inputs.items()}
    actual = _run(model.to(device), on_device, dtype)
    check_agreement(actual, expected, share)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_checkpointing_changes_no_gradient(
    device: torch.device,
    check_agreement: Callable[..., None],
    checkpointing: Literal["selective", "full"],
) -> None:
    inputs = {name: value.to(device) for name, value in _inputs((1, TOKENS, 0)).items()}
    expected = _run(_model().to(device), inputs, torch.bfloat16)
    actual = _run(_model(checkpointing).to(device), inputs, torch.bfloat16)
    # Some sums of gradients are made by atomic additions, in any order.
    check_agreement(actual, expected, 1e-2)


def test_sampling_gives_the_latents_of_the_cpu(
    device: torch.device, check_agreement: Callable[..., None]
) -> None:
    flow = RectifiedFlowConfig(shift_by_size=True)
    schedule = sampling_schedule(
        SamplerConfig(num_steps=4, guidance=3.0), flow, ClipSizes.of((17, 56, 64), 5)
    )
    results = []
    for place in (torch.device("cpu"), device):
        inputs = {name: value.to(place) for name, value in _inputs((3, 0)).items()}
        conditions = Conditions(
            **{
                name: inputs[name]
                for name in ("text_BSD", "text_mask_BS", "height_B", "width_B", "fps_B")
            }
        )
        model = _model().eval().to(place)
        results.append({"z": sample(model, inputs["x_BZthw"], conditions, schedule)})
    check_agreement(results[1], results[0], 1e-3)
