"""Both VAEs sharded over 2 real ranks (FSDP2 on gloo) train as one; this file is also a rank."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.fsdp as torch_fsdp
from tiny.models import spatial_vae, temporal_vae, video_vae
from tiny.rank_processes import results_of_ranks
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from kinetoscope.data.plan.config import ClipPlanConfig
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.objective import VideoVAEObjective
from kinetoscope.training.vae.spatial_objective import SpatialVAEObjective

RANKS = 2
STEPS = 2
SPATIAL = spatial_vae(block_widths=(8, 16))
# Pieces of frames and of clips: what is sharded is called several times before its gradient.
VIDEO = video_vae(
    spatial=SPATIAL,
    temporal=temporal_vae(multipliers=(1, 2, 2)),
    chunk_frames=5,
    spatial_micro_batch=3,
)
LOSS = VAELossConfig(perceptual_weight=0, mse_weight=1, reduction="mean")
KINDS = ("spatial", "video")
WRAPS = ("whole", "units")


def objective_of(kind: str) -> SpatialVAEObjective | VideoVAEObjective:
    """Return a VAE and its loss; weights are the same on every rank."""
    torch.manual_seed(0)
    if kind == "spatial":
        return SpatialVAEObjective(SpatialVAE(SPATIAL), LOSS)
    config = TrainVAEConfig(
        model=VIDEO,
        objective="pixels",
        freeze_spatial=False,
        loss=LOSS,
        plan=ClipPlanConfig(num_frames=7, height=6, width=8),
        loop=TrainLoopConfig(num_steps=STEPS, optimizer=OptimizerConfig(lr=0.1)),
    )
    return VideoVAEObjective(VideoVAE(VIDEO), config)


def batch_of(kind: str, step: int) -> Tensors:
    """Return two samples of a step, one for each rank."""
    generator = torch.Generator().manual_seed(step)
    frames, latent = (1, (4, 3, 4)) if kind == "spatial" else (7, (4, 3, 3, 4))
    pixels = torch.rand(RANKS, 3, frames, 6, 8, generator=generator) * 2 - 1
    return {"pixels": pixels, "noise": torch.randn(RANKS, *latent, generator=generator)}


def units_of(objective: nn.Module) -> Iterator[nn.Module]:
    """Yield the residual blocks and the convolutions between resolutions."""
    for name, module in objective.named_modules():
        if type(module).__name__ in ("_ResBlock", "_Attention", "_Upsample", "_Downsample"):
            assert name
            yield module


def train(objective: Objective, kind: str, samples: slice) -> dict[str, Tensor]:
    """Return gradients and weights of each step of plain descent, whole."""
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        tensors = {name: tensor[samples] for name, tensor in batch_of(kind, step).items()}
        objective(tensors)["loss"].mean().backward()
        for name, parameter in objective.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                found[f"grad {step} {name}"] = whole(parameter.grad)
                with torch.no_grad():
                    parameter.sub_(parameter.grad, alpha=0.1)
                found[f"weight {step} {name}"] = whole(parameter.detach())
        objective.zero_grad()
    return found


def whole(tensor: Tensor) -> Tensor:
    """Return a sharded tensor as a plain one."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor.clone() if gather is None else gather()


def run_rank(rank: int, port: int, folder: Path) -> None:
    """Save the gradients and weights of every kind and wrapping."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    results = {}
    for kind in KINDS:
        for wrap in WRAPS:
            objective = objective_of(kind)
            for unit in units_of(objective) if wrap == "units" else ():
                torch_fsdp.fully_shard(unit, mesh=mesh)
            # A scalar, which can't be sharded and is not trained here.
            torch_fsdp.fully_shard(
                objective, mesh=mesh, ignored_params=set(objective.losses.parameters())
            )
            results[f"{kind} {wrap}"] = train(objective, kind, slice(rank, rank + 1))
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes found."""
    if not hasattr(torch_fsdp, "fully_shard"):
        pytest.skip(f"torch {torch.__version__} has no torch.distributed.fsdp.fully_shard")
    return results_of_ranks(__file__, RANKS, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sharded_vae_trains_as_a_whole_one(
    ranks: list[dict[str, dict[str, Tensor]]], kind: str, wrap: str
) -> None:
    expected = train(objective_of(kind), kind, slice(None))
    for found in ranks:
        torch.testing.assert_close(found[f"{kind} {wrap}"], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_have_their_usual_order_in_memory(kind: str) -> None:
    strided = [n for n, p in objective_of(kind).named_parameters() if not p.is_contiguous()]
    assert strided == []


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
