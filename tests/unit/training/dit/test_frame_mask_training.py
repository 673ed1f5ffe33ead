from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny.models import transformer
from torch import Tensor

from kinetoscope.data.plan.batch_plan import PlanItem
from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.dit.feed import FlowDraws
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.loop.initial import initialised

MODEL = transformer(text_width=64)
ITEMS = [PlanItem(clip=0, start_frame=0, index=index) for index in range(400)]


def _config(**stage: Any) -> TrainDiTConfig:
    return TrainDiTConfig.model_validate(
        {
            "plan": {"buckets": [{"resolution": "240p", "num_frames": 51}]},
            "loop": {"num_steps": 1, "optimizer": {"lr": 1e-3}},
            "model": MODEL,
            **stage,
        }
    )


def _draws(epoch: int, items: list[PlanItem], **stage: Any) -> dict[str, Tensor]:
    return FlowDraws(_config(**stage), ("train_dit_1", 0)).tensors(epoch, items, (4, 5, 2, 2))


def test_samples_are_masked_at_the_stages_share_and_by_their_own_key() -> None:
    stage = {"frame_masks": {"image_head": 0.25}}
    masks = _draws(1, ITEMS, **stage)["frame_mask"]
    assert (~masks[:, 0]).float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert masks[:, 1:].all()
    masked = (~masks[:, 0]).nonzero().flatten().tolist()
    part = ITEMS[masked[0] : masked[0] + 3]
    assert torch.equal(_draws(1, part, **stage)["frame_mask"], masks[masked[0] : masked[0] + 3])
    assert not torch.equal(_draws(2, ITEMS, **stage)["frame_mask"], masks)


def test_a_batch_without_given_frames_has_no_mask() -> None:
    assert "frame_mask" not in _draws(0, ITEMS)
    draws = FlowDraws(_config(frame_masks={"random": 1.0}), ("train_dit_1", 0))
    assert "frame_mask" not in draws.tensors(0, ITEMS, (4, 1, 2, 2)), "images"


def _batch(num_samples: int) -> dict[str, Tensor]:
    def seeded(*shape: int, seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return {
        "mean": seeded(num_samples, 4, 3, 4, 4, seed=0),
        "logvar": torch.full((num_samples, 4, 3, 4, 4), -30.0),
        "draw": seeded(num_samples, 4, 3, 4, 4, seed=1),
        "noise": seeded(num_samples, 4, 3, 4, 4, seed=2),
        "tau": torch.linspace(0.4, 0.9, num_samples),
        "text": seeded(num_samples, 4, 64, seed=3),
        "text_mask": torch.ones(num_samples, 4, dtype=torch.bool),
        "drop_text": torch.zeros(num_samples, dtype=torch.bool),
        "height": torch.full((num_samples,), 32.0),
        "width": torch.full((num_samples,), 32.0),
        "num_frames": torch.full((num_samples,), 9.0),
        "fps": torch.full((num_samples,), 8.0),
    }


def _objective() -> FlowObjective:
    model = initialised(lambda: STDiT(MODEL), 0)
    flow = RectifiedFlowConfig(base_size_px=32)
    return FlowObjective(model, flow, shift=torch.zeros(4), scale=torch.ones(4))


def test_given_frames_stay_clean_and_have_no_part_in_the_loss() -> None:
    objective, batch = _objective(), _batch(2)
    for name, weight in objective.model.named_parameters():
        if "temporal_blocks" in name:  # which add nothing at first, so that frames are apart
            torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(0))
    masked = batch | {"frame_mask": torch.tensor([[False, True, True], [True, True, False]])}
    loss = objective(masked)["loss"]
    noise = batch["noise"].clone()
    noise[0, :, 0] += 5
    noise[1, :, 2] += 5
    assert torch.equal(objective(masked | {"noise": noise})["loss"], loss)
    assert not torch.allclose(objective(batch | {"noise": noise})["loss"], loss)
    mean = batch["mean"].clone()
    mean[0, :, 0] *= -2
    changed = objective(masked | {"mean": mean})["loss"]
    assert not torch.allclose(changed[0], loss[0]), "the model sees the given frame"
    torch.testing.assert_close(changed[1], loss[1])


def test_a_mask_of_all_true_gives_the_loss_without_one() -> None:
    objective, batch = _objective(), _batch(2)
    masked = batch | {"frame_mask": torch.ones(2, 3, dtype=torch.bool)}
    torch.testing.assert_close(objective(masked)["loss"], objective(batch)["loss"])


def test_reference_times_give_short_clips_no_noise() -> None:
    seen: list[Tensor] = []
    model = initialised(lambda: STDiT(MODEL), 0)
    model.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[:2]))
    batch = _batch(2)
    for reference_times in (True, False):
        flow = RectifiedFlowConfig(reference_times=reference_times)
        FlowObjective(model, flow, shift=torch.zeros(4), scale=torch.ones(4))(batch)
    clean, zero, noisy, times = seen
    torch.testing.assert_close(clean, batch["mean"], atol=1e-5, rtol=0)
    assert zero.tolist() == [0, 0]
    assert (times > 0).all()
    assert not torch.allclose(noisy, batch["mean"], atol=0.01)


def test_frame_masks_need_a_model_that_sees_single_frames() -> None:
    model = transformer(text_width=64, patch_size=(2, 2, 2))
    assert _config(model=model).frame_masks == {}
    with pytest.raises(ValidationError, match="must start with 1"):
        _config(model=model, frame_masks={"random": 0.1})


def test_ratios_of_frame_masks_are_checked() -> None:
    with pytest.raises(ValidationError, match="more than 1"):
        _config(frame_masks={"random": 0.6, "image_head": 0.6})
