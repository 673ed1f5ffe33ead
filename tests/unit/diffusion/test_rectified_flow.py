from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kinetoscope.core.keys import random_key
from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.diffusion.rectified_flow import (
    add_noise,
    draw_times,
    flow_loss,
    keyed_noise,
    shift_times,
    size_ratio,
    velocity_target,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "reference"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _load(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def _latent_frames(num_frames: int) -> int:
    return num_frames // 17 * 5 + math.ceil(num_frames % 17 / 4)


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("base", RectifiedFlowConfig()),
        ("scale", RectifiedFlowConfig(shift_scale=1.5)),
        # base_num_frames=5 there divides the number of frames, so it is a scale here
        ("base_res", RectifiedFlowConfig(base_size_px=256, shift_scale=1 / math.sqrt(5))),
        ("unit", RectifiedFlowConfig()),
    ],
)
def test_shift_equals_the_reference(case: str, config: RectifiedFlowConfig) -> None:
    tensors, _ = _load("rflow_timestep_transform")
    scale = 1.0 if case == "unit" else 1000.0
    tau = tensors[f"in/{case}/t"] / scale
    sizes = zip(
        *(tensors[f"in/{case}/{key}"].long().tolist() for key in ("height", "width", "num_frames")),
        strict=True,
    )
    for row, (height, width, num_frames) in enumerate(sizes):
        ratio = size_ratio(height, width, _latent_frames(num_frames), config)
        expected = tensors[f"out/{case}/t"][row] / scale
        torch.testing.assert_close(shift_times(tau, ratio), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("num_frames", [2, 9, 16])
def test_clips_shorter_than_17_frames_see_noise(num_frames: int) -> None:
    ratio = size_ratio(256, 256, _latent_frames(num_frames), RectifiedFlowConfig())
    shifted = shift_times(torch.tensor([0.5, 1.0]), ratio)
    assert shifted[0] > 0.25
    assert shifted[1] == 1


def test_shift_can_be_switched_off() -> None:
    assert size_ratio(720, 1280, 30, RectifiedFlowConfig(shift_by_size=False)) == 1.0


def test_add_noise_equals_the_reference() -> None:
    tensors, _ = _load("rflow_add_noise")
    noisy = add_noise(tensors["in/x"], tensors["in/noise"], tensors["in/t"] / 1000)
    torch.testing.assert_close(noisy, tensors["out/x_t"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", ["plain", "mask", "image", "t_given_is_not_transformed"])
def test_training_loss_equals_the_reference(case: str) -> None:
    tensors, metadata = _load("rflow_training")
    given = {
        key.removeprefix(f"in/{case}/"): value
        for key, value in tensors.items()
        if key.startswith(f"in/{case}/")
    }
    tau, mask = given["t"] / 1000, given.get("mask")
    x0, noise = given["x_start"], given["noise"]
    noisy = add_noise(x0, noise, tau, mask)
    torch.testing.assert_close(noisy, tensors[f"out/{case}/x_t"], atol=1e-6, rtol=1e-5)

    stub = json.loads(metadata["config"])["stub_model"]
    velocity = stub["a"] * noisy + (stub["b"] * tau)[:, None, None, None, None]
    velocity = velocity + stub["c"] * given["y"].mean(dim=(1, 2, 3))[:, None, None, None, None]
    if "x_mask" in given:
        velocity = velocity + stub["d"] * given["x_mask"][:, None, :, None, None]
    prediction = torch.cat((velocity, torch.zeros_like(velocity)), dim=1)
    loss = flow_loss(prediction, velocity_target(x0, noise), mask)
    torch.testing.assert_close(loss, tensors[f"out/{case}/loss"], atol=1e-5, rtol=1e-5)


def test_sample_without_a_frame_to_learn_has_loss_zero_and_no_gradient() -> None:
    prediction = torch.randn(2, 8, 3, 2, 2, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    loss = flow_loss(prediction, torch.randn(2, 4, 3, 2, 2), mask)
    loss.sum().backward()
    assert loss[1] == 0
    assert prediction.grad is not None
    assert not prediction.grad[1].any()
    assert not prediction.grad[0, :, 1].any()
    assert prediction.grad[0, :4, 0].all()


@pytest.mark.parametrize(
    ("config", "mean", "std"),
    [
        (RectifiedFlowConfig(), 0.0, 1.0),
        (RectifiedFlowConfig(logit_mean=0.5, logit_std=0.7), 0.5, 0.7),
    ],
)
def test_logit_normal_times_have_the_logits_they_should(
    config: RectifiedFlowConfig, mean: float, std: float
) -> None:
    keys = [random_key("time", 0, 0, index) for index in range(4000)]
    logits = torch.logit(draw_times(keys, config).double())
    assert logits.mean().item() == pytest.approx(mean, abs=0.06)
    assert logits.std().item() == pytest.approx(std, abs=0.05)
    quarter = logits.quantile(0.25).item()
    assert quarter == pytest.approx(mean - 0.6745 * std, abs=0.08)


def test_uniform_times_fill_the_interval() -> None:
    keys = [random_key("time", 0, 0, index) for index in range(4000)]
    times = draw_times(keys, RectifiedFlowConfig(timestep_distribution="uniform"))
    counts = torch.histc(times, bins=10, min=0, max=1)
    assert (counts - 400).abs().max() < 80


def test_times_and_noise_depend_on_each_key_alone() -> None:
    keys = [random_key("noise", 7, 1, index) for index in range(5)]
    config = RectifiedFlowConfig()
    assert torch.equal(draw_times(keys, config)[2:4], draw_times(keys[2:4], config))
    noise = keyed_noise(keys, (4, 5, 3, 2))
    torch.manual_seed(0)
    assert torch.equal(noise[2:4], keyed_noise(keys[2:4], (4, 5, 3, 2)))
    assert len({tuple(row.tolist()) for row in noise.flatten(1)}) == 5
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_noise_comes_in_the_dtype_asked_for() -> None:
    exact = keyed_noise([1, 2], (4, 1, 2, 2))
    assert torch.equal(keyed_noise([1, 2], (4, 1, 2, 2), dtype=torch.bfloat16), exact.bfloat16())
