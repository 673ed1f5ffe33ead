from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny.models import spatial_vae, transformer, video_vae
from torch import Tensor

from kinetoscope.data.plan.config import ClipPlanConfig
from kinetoscope.data.video.pixels import pixels_of
from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.objective import VideoVAEObjective
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective

SPATIAL = spatial_vae(block_widths=(8, 8))
VAE = video_vae(spatial=SPATIAL)
LOSS = VAELossConfig(mse_weight=1.0, kl_weight=1e-4, perceptual_weight=0, reduction="mean")


def _seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _video_objective(**stage: Any) -> VideoVAEObjective:
    config = TrainVAEConfig(
        model=VAE,
        loss=LOSS,
        plan=ClipPlanConfig(num_frames=5, height=8, width=8),
        loop=TrainLoopConfig(num_steps=1, optimizer=OptimizerConfig(lr=1e-3)),
        **stage,
    )
    return VideoVAEObjective(initialised(lambda: VideoVAE(VAE), 0), config)


def _clips(num_samples: int, num_frames: int = 5) -> dict[str, Tensor]:
    return {
        "pixels": _seeded(num_samples, 3, num_frames, 8, 8).clamp(-1, 1),
        "noise": _seeded(num_samples, 4, -(-num_frames // 4), 4, 4, seed=1),
    }


def _flow_objective() -> FlowObjective:
    model = initialised(lambda: STDiT(transformer()), 0)
    flow = RectifiedFlowConfig(base_size_px=32)
    return FlowObjective(model, flow, shift=torch.zeros(4), scale=torch.ones(4))


def _latents(num_samples: int) -> dict[str, Tensor]:
    mask = torch.tensor([[True, True, False, False]]).repeat(num_samples, 1)
    return {
        "mean": _seeded(num_samples, 4, 2, 4, 4),
        "logvar": torch.full((num_samples, 4, 2, 4, 4), -8.0),
        "draw": _seeded(num_samples, 4, 2, 4, 4, seed=1),
        "noise": _seeded(num_samples, 4, 2, 4, 4, seed=2),
        "tau": torch.linspace(0.1, 0.9, num_samples),
        "text": _seeded(num_samples, 4, 8, seed=3),
        "text_mask": mask,
        "drop_text": torch.arange(num_samples) % 2 == 1,
        "height": torch.full((num_samples,), 32.0),
        "width": torch.full((num_samples,), 32.0),
        "num_frames": torch.full((num_samples,), 8.0),
        "fps": torch.full((num_samples,), 8.0),
    }


@pytest.mark.parametrize(
    ("objective", "tensors"),
    [
        (
            SpatialVAEObjective(initialised(lambda: SpatialVAE(SPATIAL), 0), LOSS),
            {"pixels": _clips(3, 1)["pixels"], "noise": _seeded(3, 4, 4, 4)},
        ),
        (_video_objective(objective="spatial_latents"), _clips(3)),
        (_video_objective(objective="pixels", freeze_spatial=False), _clips(3)),
        (_flow_objective(), _latents(3)),
    ],
    ids=["spatial_vae", "latents", "pixels", "flow"],
)
def test_losses_are_per_sample_and_independent_of_the_batch(
    objective: Objective, tensors: dict[str, Tensor]
) -> None:
    together = objective(tensors)
    assert together["loss"].shape == (3,)
    assert set(together) - {"loss"} <= set(objective.parts)
    alone = [
        objective({name: tensor[i : i + 1] for name, tensor in tensors.items()})["loss"]
        for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone), together["loss"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", ["spatial", "video", "flow"])
def test_levels_are_trained_on_as_their_pixels(make: str) -> None:
    frames = 1 if make == "spatial" else 5
    levels = torch.arange(2 * frames * 8 * 8 * 3).remainder(256).to(torch.uint8)
    levels_BTHWC = levels.view(2, frames, 8, 8, 3)
    if make == "flow":
        objective: Objective = FlowObjective(
            initialised(lambda: STDiT(transformer()), 0),
            RectifiedFlowConfig(base_size_px=32),
            shift=torch.zeros(4),
            scale=torch.ones(4),
            vae=initialised(lambda: VideoVAE(VAE), 0),
        )
        tensors = _latents(2)
    elif make == "video":
        objective, tensors = _video_objective(objective="pixels", freeze_spatial=False), _clips(2)
    else:
        objective = SpatialVAEObjective(initialised(lambda: SpatialVAE(SPATIAL), 0), LOSS)
        tensors = {"noise": _seeded(2, 4, 4, 4)}
    pixels = pixels_of(levels_BTHWC)
    expected = objective(tensors | {"pixels": pixels})["loss"]
    assert torch.equal(objective(tensors | {"pixels": levels_BTHWC})["loss"], expected)


def test_a_frozen_spatial_vae_gets_no_gradient() -> None:
    objective = _video_objective(objective="spatial_latents", freeze_spatial=True)
    objective(_clips(2))["loss"].sum().backward()
    trained = {
        name.split(".")[0] for name, p in objective.model.named_parameters() if p.grad is not None
    }
    assert trained == {"temporal_vae"}


def test_targets_teach_the_spatial_vae_nothing() -> None:
    objective = _video_objective(objective="spatial_latents", freeze_spatial=False)
    objective(_clips(2))["loss"].sum().backward()
    spatial = objective.model.spatial_vae.module
    assert spatial.encoder.conv_in.weight.grad is not None
    # Frame latents are compared, never decoded: a gradient here could only come from the target.
    assert all(p.grad is None for p in spatial.decoder.parameters())


def test_identity_loss_is_for_images_only() -> None:
    objective = _video_objective(objective="spatial_latents", identity_loss=True)
    assert "identity" in objective(_clips(2, 1))
    assert "identity" not in objective(_clips(2, 5))


@pytest.mark.parametrize("make", ["flow", "pixels"])
def test_loss_falls_on_one_fixed_batch(make: str) -> None:
    if make == "flow":
        objective: Objective = _flow_objective()
        tensors = _latents(4)
    else:
        objective = _video_objective(objective="pixels", freeze_spatial=False)
        tensors = _clips(4)
    engine = TorchDDPEngine(ALONE, dtype="fp32")
    engine.prepare(objective, OptimizerConfig(lr=3e-3))
    losses = []
    for _ in range(40):
        values = engine.forward_backward(tensors, scale=1 / 4, last=True)
        engine.clip_gradients(1.0)
        engine.step(3e-3)
        losses.append(float(values["loss"].mean()))
    assert losses[-1] < 0.8 * losses[0]


def test_initial_weights_depend_on_the_key_alone() -> None:
    torch.manual_seed(1)
    first = initialised(lambda: SpatialVAE(SPATIAL), "train_spatial_vae", 7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = initialised(lambda: SpatialVAE(SPATIAL), "train_spatial_vae", 7)
    other = initialised(lambda: SpatialVAE(SPATIAL), "train_spatial_vae", 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.quant_conv.weight, second.quant_conv.weight)
    assert not torch.equal(first.quant_conv.weight, other.quant_conv.weight)
