from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny.models import random_transformer
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes, keyed_noise
from kinetoscope.diffusion.sampler import Schedule, keyed_step_noise, sample, sampling_schedule
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.parity.checks.stub_flow import Recorder, StubFlow

GOLDEN = Path(__file__).parents[2] / "golden" / "reference" / "rflow_sample.safetensors"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _sizes(count: int, size: tuple[int, int, int] = (9, 32, 32)) -> ClipSizes:
    return ClipSizes.of(size, 3, count=count)


def _schedule(num_steps: int, guidance: float = 1.0, *, shift_by_size: bool = False) -> Schedule:
    config = SamplerConfig(num_steps=num_steps, guidance=guidance)
    return sampling_schedule(config, RectifiedFlowConfig(shift_by_size=shift_by_size), _sizes(1))


@pytest.mark.parametrize("case", ["s10_transform", "s10_image_transform", "s30_transform_mask"])
def test_default_trajectory_equals_the_reference(case: str) -> None:
    with safe_open(GOLDEN, "pt") as file:
        metadata = json.loads(file.metadata()["config"])
        names = [key for key in file.keys() if f"/{case}/" in key]  # noqa: SIM118 - no iterator
        tensors = {name.replace(f"/{case}/", "/"): file.get_tensor(name) for name in names}
    z, noise = tensors["in/z"], tensors.get("in/step_noise")
    recorder = Recorder(StubFlow(metadata["stub_model"], tensors["in/y_null"][:, 0]), len(z))
    num_frames = tensors["in/num_frames"]
    latent_frames = {1: 1, 51: 15, 102: 30}[int(num_frames[0])]
    sizes = ClipSizes(tensors["in/height"], tensors["in/width"], num_frames, latent_frames)
    scheduler = metadata["cases"][case]["scheduler"]
    config = SamplerConfig(
        num_steps=scheduler["num_sampling_steps"], guidance=scheduler["cfg_scale"]
    )
    conditions = Conditions(
        text_BSD=tensors["in/y"][:, 0],
        text_mask_BS=None,
        height_B=sizes.height_B,
        width_B=sizes.width_B,
        fps_B=tensors["in/fps"],
        frame_mask_Bt=tensors.get("in/mask"),
    )
    schedule = sampling_schedule(config, RectifiedFlowConfig(), sizes)
    step_noise = None if noise is None else noise.__getitem__
    latents = sample(recorder, z, conditions, schedule, step_noise=step_noise)

    torch.testing.assert_close(latents, tensors["out/final"], atol=1e-3, rtol=1e-4)
    ours_z, ours_t = torch.stack(recorder.latents), torch.stack(recorder.timesteps)
    torch.testing.assert_close(ours_z, tensors["out/model_z"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(ours_t, tensors["out/model_t"], atol=1e-3, rtol=1e-5)


def _model() -> STDiT:
    return random_transformer(depth=1).eval()


def _conditions(batch: int) -> Conditions:
    size = torch.full((batch,), 32.0)
    text = keyed_noise(range(batch), (6, 12))
    mask = torch.arange(6)[None] < torch.tensor([4])
    return Conditions(text, mask.expand(batch, -1), size, size, torch.full((batch,), 8.0))


def _generated(
    mask: Tensor | None, noise: Tensor, steps: list[int] | None = None, **settings: Any
) -> Tensor:
    """Sample from the stub with a mask; note the steps that asked for noise."""

    def step_noise(step: int) -> Tensor:
        if steps is not None:
            steps.append(step)
        return keyed_step_noise(range(50, 50 + len(noise)), noise.shape[1:])(step)

    stub = StubFlow({"a": 0.7, "b": -0.4, "c": 0.9, "d": 0.25}, torch.zeros(len(noise), 6, 12))
    conditions = replace(_conditions(len(noise)), frame_mask_Bt=mask)
    return sample(stub, noise, conditions, _schedule(10, **settings), step_noise=step_noise)


def test_sampling_from_the_model_draws_nothing() -> None:
    model, noise = _model(), keyed_noise([1, 2], (4, 3, 4, 4))
    steps: list[tuple[int, int]] = []
    schedule = sampling_schedule(
        SamplerConfig(num_steps=3, guidance=4), RectifiedFlowConfig(base_size_px=16), _sizes(2)
    )

    def note(done: int, total: int) -> None:
        steps.append((done, total))

    one = sample(model, noise, _conditions(2), schedule, on_step=note)
    torch.manual_seed(99)
    other = sample(model, noise, _conditions(2), schedule)
    assert torch.equal(one, other)
    assert one.shape == noise.shape
    assert not one.requires_grad
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_guidance_moves_samples_away_from_the_null_text() -> None:
    model, noise, conditions = _model(), keyed_noise([1, 2], (4, 3, 4, 4)), _conditions(2)
    results = {g: sample(model, noise, conditions, _schedule(1, g)) for g in (0.0, 1.0, 3.0)}
    # one Euler step is linear in guidance, and guidance 1 takes the path without the null text
    expected = results[0.0] + 3 * (results[1.0] - results[0.0])
    torch.testing.assert_close(results[3.0], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(results[0.0], results[1.0], atol=1e-3)


def test_times_start_at_noise_and_fall() -> None:
    config = SamplerConfig(num_steps=7)
    for flow in (RectifiedFlowConfig(base_size_px=16), RectifiedFlowConfig(num_timesteps=50)):
        schedule = sampling_schedule(config, flow, _sizes(2))
        assert schedule.timesteps_NB.shape == (7, 2)
        assert (schedule.timesteps_NB[0] == flow.num_timesteps).all()
        assert (schedule.timesteps_NB.diff(dim=0) < 0).all()
        assert (schedule.timesteps_NB > 0).all()
    even = _schedule(7).timesteps_NB
    shifted = sampling_schedule(config, RectifiedFlowConfig(base_size_px=16), _sizes(1))
    assert (shifted.timesteps_NB[1:] > even[1:]).all()


def test_discrete_times_are_whole_and_reference_times_take_no_scale() -> None:
    config = SamplerConfig(num_steps=7, discrete_times=True)
    flow = RectifiedFlowConfig(shift_by_size=False)
    times = sampling_schedule(config, flow, _sizes(1)).timesteps_NB[:, 0]
    assert times.tolist() == [1000, 857, 714, 571, 429, 286, 143]

    def second(**settings: Any) -> float:
        flow = RectifiedFlowConfig(**settings)
        sizes = ClipSizes.of((17, 256, 256), 5)
        return sampling_schedule(SamplerConfig(num_steps=3), flow, sizes).timesteps_NB[1].item()

    assert second(reference_times=True, shift_scale=2.0) == second(reference_times=True)
    assert second(shift_scale=2.0) > second()


def test_kept_frames_stay_as_they_are_and_the_model_is_told() -> None:
    noise = keyed_noise([1, 2], (4, 3, 4, 4))
    mask = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    asked: list[int] = []
    kept = _generated(mask, noise, asked, guidance=3.0)
    assert torch.equal(kept[0, :, 0], noise[0, :, 0])
    assert torch.equal(kept[1, :, 2], noise[1, :, 2])
    assert not asked, "frames of 0 and 1 need no noise"
    free = _generated(torch.ones(2, 3), noise, guidance=3.0)
    torch.testing.assert_close(kept[0, :, 1:], free[0, :, 1:])

    recorder = Recorder(_model(), 2)
    conditions = replace(_conditions(2), frame_mask_Bt=mask)
    sample(recorder, noise, conditions, _schedule(2, 3.0))
    assert [m.tolist() for m in recorder.masks] == [mask.bool().repeat(2, 1).tolist()] * 2


def test_a_mask_of_ones_gives_what_no_mask_gives() -> None:
    model, noise = _model(), keyed_noise([1, 2], (4, 3, 4, 4))
    conditions = _conditions(2)
    plain = sample(model, noise, conditions, _schedule(3, 4.0))
    masked = replace(conditions, frame_mask_Bt=torch.ones(2, 3))
    torch.testing.assert_close(sample(model, noise, masked, _schedule(3, 4.0)), plain)


def test_edited_frames_are_noised_once_when_their_time_has_come() -> None:
    noise = keyed_noise([1], (4, 3, 4, 4))
    asked: list[int] = []
    edited = _generated(torch.tensor([[0.7, 1.0, 0.25]]), noise, asked)
    # ten even steps: 0.7 starts at the step of 700, 0.25 at that of 200
    assert asked == [3, 8]
    assert not torch.allclose(edited[:, :, 0], noise[:, :, 0], atol=0.1)
    stub = StubFlow({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}, torch.zeros(1, 6, 12))
    conditions = replace(_conditions(1), frame_mask_Bt=torch.tensor([[0.7, 1.0, 1.0]]))
    step_noise = keyed_step_noise([50], noise.shape[1:])
    still = sample(stub, noise, conditions, _schedule(10), step_noise=step_noise)
    expected = 0.3 * noise[:, :, 0] + 0.7 * step_noise(3)[:, :, 0]
    torch.testing.assert_close(still[:, :, 0], expected)


def test_an_edited_sample_does_not_depend_on_its_batch() -> None:
    noise = keyed_noise([1, 2], (4, 3, 4, 4))
    mask = torch.tensor([[0.5, 1.0, 0.5], [0.5, 1.0, 0.25]])
    together = _generated(mask, noise)
    torch.testing.assert_close(_generated(mask[:1], noise[:1]), together[:1])


def test_noise_of_a_step_is_keyed_by_sample_and_step() -> None:
    step_noise = keyed_step_noise([1, 2], (4, 1, 2, 2))
    assert torch.equal(step_noise(3), step_noise(3))
    assert not torch.equal(step_noise(3), step_noise(4))
    assert torch.equal(step_noise(3)[1:], keyed_step_noise([2], (4, 1, 2, 2))(3))


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (torch.ones(1, 2), r"frame mask is \(1, 2\), not \(1, 3\)"),
        (torch.tensor([[1.0, 1.5, 1.0]]), r"outside \[0, 1\]"),
        (torch.tensor([[1.0, math.nan, 1.0]]), r"outside \[0, 1\]"),
        (torch.tensor([[1.0, 0.5, 1.0]]), "needs step_noise"),
    ],
)
def test_masks_that_can_not_be_are_refused(mask: Tensor, told: str) -> None:
    conditions = replace(_conditions(1), frame_mask_Bt=mask)
    stub = StubFlow({"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0})
    with pytest.raises(ValueError, match=told):
        sample(stub, keyed_noise([1], (4, 3, 4, 4)), conditions, _schedule(4))
