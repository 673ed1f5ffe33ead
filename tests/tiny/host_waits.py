"""What makes the host wait, found on a device that is made up.

Run as a process of its own, since the device stays; prints one JSON object: operators by case.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial

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

Case = tuple[Objective, dict[str, Tensor]]
KINDS = ("item", "truth", "mask", "from the host", "numbers", "to the host", "nothing")


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


def _read(what: str) -> Case:
    return _Reader(what), {"x": torch.empty(3, 4), "mask": torch.empty(3, dtype=torch.bool)}


def _spatial_vae() -> Case:
    config = SpatialVAEConfig(
        block_widths=(8, 16), layers_per_block=1, norm_groups=4, latent_channels=4
    )
    objective = SpatialVAEObjective(SpatialVAE(config), VAELossConfig(perceptual_weight=0.0))
    levels = torch.empty(2, 1, 16, 16, 3, dtype=torch.uint8)
    return objective, {"pixels": levels, "noise": torch.empty(2, 4, 8, 8)}


def _transformer() -> Case:
    config = STDiTConfig(depth=2, width=32, num_heads=4, text_width=16, max_text_tokens=12)
    count = 3
    latents = (count, 4, 2, 4, 4)
    objective = FlowObjective(
        STDiT(config), RectifiedFlowConfig(), shift=torch.zeros(4), scale=torch.ones(4)
    )
    names = ("tau", "height", "width", "num_frames", "fps")
    return objective, {
        **{name: torch.empty(latents) for name in ("mean", "logvar", "draw", "noise")},
        **{name: torch.empty(count) for name in names},
        "text": torch.empty(20, 16),
        "text_places": torch.empty(20, 2, dtype=torch.int64),
        "drop_text": torch.empty(count, dtype=torch.bool),
        "frame_mask": torch.empty(count, 2, dtype=torch.bool),
    }


def main() -> None:
    """Print what is found of each case."""
    cases: dict[str, Callable[[], Case]] = {kind: partial(_read, kind) for kind in KINDS}
    cases |= {"spatial VAE": _spatial_vae, "transformer": _transformer}
    found = {}
    for name, make in cases.items():
        with made_up_device() as device:
            with device:
                objective, batch = make()
            found[name] = [read.operator for read in waits_of(objective, batch)]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
