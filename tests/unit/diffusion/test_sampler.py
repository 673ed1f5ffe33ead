from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.diffusion.rectified_flow import keyed_noise, size_ratio
from kinetoscope.diffusion.sampler import Conditions, sample, sampling_times
from kinetoscope.models.config import STDiTConfig
from kinetoscope.models.stdit import STDiT

GOLDEN = Path(__file__).parents[2] / "golden" / "reference" / "rflow_sample.safetensors"
CASES = [
    "s30_plain",
    "s30_transform",
    "s10_plain",
    "s10_transform",
    "s10_image_transform",
    "s10_guidance_override",
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class StubFlow:
    """The model of the golden file: linear in its inputs, and it keeps what it was given."""

    def __init__(self, coefficients: dict[str, float], null_text_BSD: Tensor) -> None:
        self.coefficients = coefficients
        self.null_text_BSD = null_text_BSD
        self.latents: list[Tensor] = []
        self.times: list[Tensor] = []

    def __call__(  # noqa: PLR0913 - a FlowModel
        self,
        x: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        /,
        *,
        height_B: Tensor,
        width_B: Tensor,
        fps_B: Tensor,
        drop_text_B: Tensor | None,
    ) -> Tensor:
        assert text_mask is None
        assert len(x) == len(timestep) == len(text) == len(height_B) == len(width_B) == len(fps_B)
        batch = len(self.null_text_BSD)
        self.latents.append(x[:batch])
        self.times.append(timestep[:batch])
        if drop_text_B is not None:
            null = self.null_text_BSD.repeat(len(x) // batch, 1, 1)
            text = torch.where(drop_text_B[:, None, None], null, text)
        c = self.coefficients
        velocity = c["a"] * x + (c["b"] * timestep / 1000)[:, None, None, None, None]
        velocity = velocity + c["c"] * text.mean(dim=(1, 2))[:, None, None, None, None]
        return torch.cat((velocity, torch.zeros_like(velocity)), dim=1)


@pytest.mark.parametrize("case", CASES)
def test_trajectory_equals_the_reference(case: str) -> None:
    with safe_open(GOLDEN, "pt") as file:
        metadata = json.loads(file.metadata()["config"])
        given = {
            key: file.get_tensor(f"in/{case}/{key}")
            for key in ("z", "y", "y_null", "height", "width", "num_frames", "fps")
        }
        final, model_z, model_t = (
            file.get_tensor(f"out/{case}/{key}") for key in ("final", "model_z", "model_t")
        )
    settings = metadata["cases"][case]
    guidance = settings["guidance_scale"] or settings["scheduler"]["cfg_scale"]
    num_frames = int(given["num_frames"][0])
    flow = RectifiedFlowConfig(
        shift_by_size=settings["scheduler"].get("use_timestep_transform", False)
    )
    ratio = size_ratio(
        int(given["height"][0]),
        int(given["width"][0]),
        num_frames // 17 * 5 + math.ceil(num_frames % 17 / 4),
        flow,
    )
    stub = StubFlow(metadata["stub_model"], given["y_null"][:, 0])
    conditions = Conditions(
        text_BSD=given["y"][:, 0],
        text_mask_BS=None,
        height_B=given["height"],
        width_B=given["width"],
        fps_B=given["fps"],
    )
    config = SamplerConfig(num_steps=settings["num_sampling_steps"], guidance=guidance)
    latents = sample(stub, given["z"], conditions, config, ratio=ratio)

    torch.testing.assert_close(latents, final, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(torch.stack(stub.latents), model_z, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(torch.stack(stub.times), model_t, atol=1e-3, rtol=1e-5)


def _model() -> STDiT:
    model = STDiT(
        STDiTConfig(depth=1, width=32, num_heads=2, text_width=12, max_text_tokens=6)
    ).eval()
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model


def _conditions(batch: int) -> Conditions:
    size = torch.full((batch,), 32.0)
    text = keyed_noise(range(batch), (6, 12))
    mask = torch.arange(6)[None] < torch.tensor([4])
    return Conditions(text, mask.expand(batch, -1), size, size, torch.full((batch,), 8.0))


def test_sampling_from_the_model_draws_nothing() -> None:
    model, noise = _model(), keyed_noise([1, 2], (4, 3, 4, 4))
    steps: list[tuple[int, int]] = []
    config = SamplerConfig(num_steps=3, guidance=4)
    one = sample(
        model,
        noise,
        _conditions(2),
        config,
        ratio=2.0,
        on_step=lambda done, total: steps.append((done, total)),
    )
    torch.manual_seed(99)
    other = sample(model, noise, _conditions(2), config, ratio=2.0)
    assert torch.equal(one, other)
    assert one.shape == noise.shape
    assert not one.requires_grad
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_guidance_moves_samples_away_from_the_null_text() -> None:
    model, noise, conditions = _model(), keyed_noise([1, 2], (4, 3, 4, 4)), _conditions(2)
    results = {
        guidance: sample(model, noise, conditions, SamplerConfig(num_steps=1, guidance=guidance))
        for guidance in (0.0, 1.0, 3.0)
    }
    # one Euler step is linear in guidance, and guidance 1 takes the path without the null text
    expected = results[0.0] + 3 * (results[1.0] - results[0.0])
    torch.testing.assert_close(results[3.0], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(results[0.0], results[1.0], atol=1e-3)


def test_times_start_at_noise_and_end_at_data() -> None:
    times = sampling_times(7, 3.0)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times[1:] < times[:-1]).all()
    assert (times[1:-1] > sampling_times(7, 1.0)[1:-1]).all()
