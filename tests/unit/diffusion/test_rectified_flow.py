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
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import (
    ClipSizes,
    draw_times,
    flow_loss,
    keyed_noise,
    shift_by_size,
    training_loss,
)
from kinetoscope.parity.checks.stub_flow import StubFlow

GOLDEN = Path(__file__).parents[2] / "golden" / "reference"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _load(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def _latent_frames(num_frames: int) -> int:
    return num_frames // 17 * 5 + math.ceil(num_frames % 17 / 4)


def _sizes(num_frames: int, height: int = 256, width: int = 256) -> ClipSizes:
    return ClipSizes.of((num_frames, height, width), _latent_frames(num_frames))


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("base", RectifiedFlowConfig()),
        ("scale", RectifiedFlowConfig(shift_scale=1.5)),
        # base_num_frames=5 there divides the number of frames, so it is a scale here
        ("base_res", RectifiedFlowConfig(base_size_px=256, shift_scale=1 / math.sqrt(5))),
        ("unit", RectifiedFlowConfig(num_timesteps=1)),
    ],
)
def test_default_shift_equals_the_reference_at_whole_chunks(
    case: str, config: RectifiedFlowConfig
) -> None:
    tensors, _ = _load("rflow_timestep_transform")
    timestep = tensors[f"in/{case}/t"]
    sizes = zip(
        *(tensors[f"in/{case}/{key}"].long().tolist() for key in ("height", "width", "num_frames")),
        strict=True,
    )
    for row, (height, width, num_frames) in enumerate(sizes):
        shifted = shift_by_size(timestep, _sizes(num_frames, height, width), config)
        expected = tensors[f"out/{case}/t"][row]
        limit = 1e-6 * config.num_timesteps
        torch.testing.assert_close(shifted, expected, atol=limit, rtol=1e-6)


def test_clips_shorter_than_17_frames_see_noise() -> None:
    half, noise = torch.tensor([500.0]), torch.tensor([1000.0])
    for num_frames in (2, 9, 16):
        sizes = _sizes(num_frames)
        assert shift_by_size(half, sizes, RectifiedFlowConfig()) > 250
        assert shift_by_size(noise, sizes, RectifiedFlowConfig()) == 1000
        reference = RectifiedFlowConfig(reference_times=True)
        assert shift_by_size(half, sizes, reference) == 0
        assert shift_by_size(noise, sizes, reference).isnan()


def test_reference_times_count_latent_frames_in_whole_chunks() -> None:
    half, sizes = torch.tensor([500.0]), _sizes(33)
    whole = shift_by_size(half, _sizes(17), RectifiedFlowConfig())
    reference = shift_by_size(half, sizes, RectifiedFlowConfig(reference_times=True))
    torch.testing.assert_close(reference, whole)
    assert shift_by_size(half, sizes, RectifiedFlowConfig()) > whole


def test_each_clip_of_a_batch_is_shifted_by_its_own_size() -> None:
    height, width = torch.tensor([144.0, 720.0]), torch.tensor([256.0, 1280.0])
    both = ClipSizes(height, width, torch.tensor([51.0, 51.0]), 15)
    times = torch.tensor([300.0, 300.0])
    for config in (RectifiedFlowConfig(), RectifiedFlowConfig(reference_times=True)):
        shifted = shift_by_size(times, both, config)
        alone = [
            shift_by_size(times[:1], _sizes(51, int(h), int(w)), config)
            for h, w in zip(height, width, strict=True)
        ]
        torch.testing.assert_close(shifted, torch.cat(alone))
        assert shifted[0] < shifted[1]


@pytest.mark.parametrize("num_frames", range(1, 65))
def test_shifted_times_are_finite_ordered_and_keep_their_ends(num_frames: int) -> None:
    times = torch.cat((torch.linspace(0, 1000, 101), torch.tensor([1e-30, 999.99994])))
    times = times.sort().values
    for height, width in ((8, 8), (144, 256), (720, 1280), (4096, 4096)):
        config = RectifiedFlowConfig(shift_scale=0.5 if num_frames % 2 else 3.0)
        shifted = shift_by_size(times, _sizes(num_frames, height, width), config)
        assert shifted.isfinite().all()
        assert (shifted.diff() >= 0).all()
        assert shifted[[0, -1]].tolist() == [0, 1000]


def test_shift_can_be_switched_off() -> None:
    times, config = torch.tensor([0.0, 123.5, 1000.0]), RectifiedFlowConfig(shift_by_size=False)
    assert torch.equal(shift_by_size(times, _sizes(102, 720, 1280), config), times)


@pytest.mark.parametrize("case", ["plain", "mask", "image", "t_given_is_not_transformed"])
def test_default_loss_equals_the_reference(case: str) -> None:
    tensors, metadata = _load("rflow_training")
    prefix = f"in/{case}/"
    given = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    coefficients = json.loads(metadata["config"])["stub_model"]
    conditions = Conditions(
        text_BSD=given["y"][:, 0],
        text_mask_BS=None,
        height_B=given["height"],
        width_B=given["width"],
        fps_B=given["fps"],
        frame_mask_Bt=given.get("mask"),
    )
    loss = training_loss(
        StubFlow(coefficients),
        given["x_start"],
        given["noise"],
        given["t"],
        conditions,
        RectifiedFlowConfig(),
    )
    torch.testing.assert_close(loss, tensors[f"out/{case}/loss"], atol=1e-5, rtol=1e-5)


def test_loss_of_a_sample_without_a_frame_to_learn_is_nan_in_compat_mode() -> None:
    prediction, target = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    reference = flow_loss(prediction, target, mask, nan_without_frames=True)
    assert reference.isnan().tolist() == [False, True]
    assert reference[0] == flow_loss(prediction, target, mask)[0]


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


def test_discrete_times_are_whole_numbers_of_timesteps() -> None:
    keys = [random_key("time", 0, 0, index) for index in range(4000)]
    config = RectifiedFlowConfig(timestep_distribution="discrete", num_timesteps=8)
    timesteps = draw_times(keys, config) * 8
    assert torch.equal(timesteps, timesteps.round())
    counts = torch.bincount(timesteps.long(), minlength=8)
    assert (len(counts), int((counts - 500).abs().max()) < 90) == (8, True)


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
