"""What makes the host wait for a device is found, with its place; what does not is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import SpatialVAEConfig, VAELossConfig
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.tracing.waits import made_up_device, waits_of
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective

CAN_MAKE_UP = torch.__version__ >= "2.9"

pytestmark = pytest.mark.skipif(
    not CAN_MAKE_UP, reason="this version of torch can't make a device up"
)

if CAN_MAKE_UP:
    # Before any test: torch counts devices at a process's first backward pass, and no more.
    with made_up_device():
        pass


class _Reader(Objective):
    """Does one thing that may make the host wait."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.model = nn.Linear(4, 4)
        self.what = what

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        x = self.model(tensors["x"])
        if self.what == "item":
            x = x * x.sum().item()
        elif self.what == "truth" and x.sum() > 0:
            x = x + 1
        elif self.what == "mask":
            x = x[tensors["mask"]]
        elif self.what == "from the host":
            x = x + torch.ones(4).to(x.device)
        elif self.what == "numbers":
            x = x * x.new_tensor([1.0, 2.0, 3.0, 4.0])
        elif self.what == "to the host":
            x = x + x.detach().cpu().mean()
        return {"loss": x.flatten()}


def _found(what: str) -> list[str]:
    with made_up_device() as device:
        with device:
            objective = _Reader(what)
            batch = {"x": torch.empty(3, 4), "mask": torch.empty(3, dtype=torch.bool)}
        return [read.operator for read in waits_of(objective, batch)]


@pytest.mark.parametrize(
    ("what", "operators"),
    [
        ("item", ["_local_scalar_dense"]),
        ("truth", ["_local_scalar_dense"]),
        ("mask", ["index"]),
        ("from the host", ["copy from the host"]),
        ("numbers", ["copy from the host"]),
        ("to the host", ["copy to the host"]),
        ("nothing", []),
    ],
)
def test_each_kind_of_wait_is_found(what: str, operators: list[str]) -> None:
    assert _found(what) == operators


def test_the_spatial_vae_never_waits() -> None:
    config = SpatialVAEConfig(
        block_widths=(8, 16), layers_per_block=1, norm_groups=4, latent_channels=4
    )
    with made_up_device() as device:
        with device:
            objective = SpatialVAEObjective(
                SpatialVAE(config), VAELossConfig(perceptual_weight=0.0)
            )
            levels = torch.empty(2, 1, 16, 16, 3, dtype=torch.uint8)
            batch = {"pixels": levels, "noise": torch.empty(2, 4, 8, 8)}
        waits = waits_of(objective, batch)
    assert waits == []


def test_the_transformer_never_waits_on_packed_text() -> None:
    config = STDiTConfig(depth=2, width=32, num_heads=4, text_width=16, max_text_tokens=12)
    count = 3
    latents = (count, 4, 2, 4, 4)
    with made_up_device() as device:
        with device:
            objective = FlowObjective(
                STDiT(config), RectifiedFlowConfig(), shift=torch.zeros(4), scale=torch.ones(4)
            )
            names = ("tau", "height", "width", "num_frames", "fps")
            batch = {
                **{name: torch.empty(latents) for name in ("mean", "logvar", "draw", "noise")},
                **{name: torch.empty(count) for name in names},
                "text": torch.empty(20, 16),
                "text_places": torch.empty(20, 2, dtype=torch.int64),
                "drop_text": torch.empty(count, dtype=torch.bool),
                "frame_mask": torch.empty(count, 2, dtype=torch.bool),
            }
        waits = waits_of(objective, batch)
    assert waits == []
