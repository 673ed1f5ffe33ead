"""One training step on the CPU: its memory as the kernel saw it, and as it was traced before.

Run as a process of its own; prints one JSON object with ``traced`` and ``measured`` bytes of all
that forward and backward pass made beside weights, gradients and inputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.config import Precision
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import (
    SpatialVAEConfig,
    TemporalVAEConfig,
    VAELossConfig,
    VideoVAEConfig,
)
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.steps.rank_environment import LOOPBACK, RankEnvironment
from kinetoscope.tracing.step import StepTracer
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.objective import VideoVAEObjective
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective

Case = tuple[Objective, dict[str, Tensor]]

TEXT_TOKENS = 32
_LOSS = VAELossConfig(perceptual_weight=0.0)
_SPATIAL = SpatialVAEConfig(block_widths=(32, 64), layers_per_block=1, norm_groups=8)
_TEMPORAL = TemporalVAEConfig(base_width=32, multipliers=(1, 2), temporal_downsample=(True,))


def _flow(checkpointing: str, batch_size: int) -> Case:
    config = STDiTConfig(
        depth=3,
        width=192,
        num_heads=4,
        text_width=64,
        max_text_tokens=TEXT_TOKENS,
        activation_checkpointing=checkpointing,
    )
    objective = FlowObjective(
        STDiT(config), RectifiedFlowConfig(), shift=torch.zeros(4), scale=torch.ones(4)
    )
    latents = (batch_size, 4, 4, 32, 32)
    names = ("tau", "height", "width", "num_frames", "fps")
    return objective, {
        **{name: torch.rand(latents) for name in ("mean", "logvar", "draw", "noise")},
        **{name: torch.rand(batch_size) + 1 for name in names},
        "text": torch.rand(batch_size * TEXT_TOKENS, 64),
        "text_places": torch.cartesian_prod(torch.arange(batch_size), torch.arange(TEXT_TOKENS)),
        "drop_text": torch.zeros(batch_size, dtype=torch.bool),
    }


def _spatial() -> Case:
    batch = {"pixels": torch.rand(3, 3, 1, 256, 256), "noise": torch.rand(3, 4, 128, 128)}
    return SpatialVAEObjective(SpatialVAE(_SPATIAL), _LOSS), batch


def _video(objective: str, side: int) -> Case:
    model = VideoVAEConfig(spatial=_SPATIAL, temporal=_TEMPORAL, spatial_micro_batch=4)
    config = TrainVAEConfig.model_validate(
        {
            "objective": objective,
            "freeze_spatial": objective == "spatial_latents",
            "loss": _LOSS,
            "plan": {"num_frames": 9, "height": side, "width": side},
            "loop": _loop("fp32"),
            "model": model,
        }
    )
    latents = config.model.latent_size((9, side, side))
    batch = {"pixels": torch.rand(1, 3, 9, side, side), "noise": torch.rand(1, 4, *latents)}
    return VideoVAEObjective(VideoVAE(model), config), batch


CASES: dict[str, tuple[Callable[[], Case], Precision]] = {
    "dit none": (lambda: _flow("none", 4), "fp32"),
    "dit selective bf16": (lambda: _flow("selective", 12), "bf16"),
    "dit full bf16": (lambda: _flow("full", 32), "bf16"),
    "vae spatial": (_spatial, "fp32"),
    "vae temporal": (lambda: _video("spatial_latents", 192), "fp32"),
    "vae video": (lambda: _video("pixels", 112), "fp32"),
}


def _loop(dtype: Precision) -> TrainLoopConfig:
    return TrainLoopConfig.model_validate(
        {"num_steps": 1, "optimizer": OptimizerConfig(lr=1e-4), "dtype": dtype}
    )


def _traced(case: Callable[[], Case], dtype: Precision) -> int:
    with FakeTensorMode():
        objective, batch = case()
        trace = StepTracer(objective, _loop(dtype)).trace(batch)
    passes = (trace.peaks["forward"].bytes_by_kind, trace.peaks["backward"].bytes_by_kind)
    return max(sum(p[k] for k in ("casts", "activations", "temporaries")) for p in passes)


def _measured(case: Callable[[], Case], dtype: Precision) -> int:
    objective, batch = case()
    engine = TorchDDPEngine(RankEnvironment(1, 0, 1, 0, LOOPBACK, 0), dtype=dtype)
    engine.prepare(objective, OptimizerConfig(lr=1e-4))
    for parameter in objective.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    rows = {"text": TEXT_TOKENS, "text_places": TEXT_TOKENS}
    small = {name: tensor[: rows.get(name, 1)] for name, tensor in batch.items()}
    # Loads kernels and imports what a first step needs.
    engine.forward_backward(small, scale=1.0, last=True)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    engine.forward_backward(batch, scale=1.0, last=True)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    chosen, precision = CASES[sys.argv[1]]
    torch.manual_seed(0)
    traced = _traced(chosen, precision)
    measured = _measured(chosen, precision)
    sys.stdout.write(json.dumps({"traced": traced, "measured": measured}) + "\n")
