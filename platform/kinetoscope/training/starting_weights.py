"""Where a model's weights come from when a training step begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.core.keys import random_key
from kinetoscope.models.config import VideoVAEConfig
from kinetoscope.models.video_vae import VideoVAE
from kinetoscope.models.weight_files import read_state_dict
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.store import open_store
from kinetoscope.training.engine.torch_ddp import load_weights

Module = TypeVar("Module", bound=nn.Module)

_SPATIAL_PREFIX = "spatial_vae.module."


def initialised(build: Callable[[], Module], *key: int | str) -> Module:
    """Build a module whose random initial weights depend on the key alone.

    Args:
        build: makes the module, drawing from torch's global generator.
        key: parts of the random key.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_key("init", *key))
        return build()


def read_weights(result: StepResult, group: str = "weights") -> dict[str, Tensor]:
    """Return a group of tensors of the checkpoint that a step committed.

    Args:
        result: of a training step.
        group: ``weights`` or ``ema``.
    """
    store = open_store(result.artifact("checkpoint").uri)
    return dict(read_checkpoint(store, groups=[group]).tensors[group])


def load_video_vae(config: VideoVAEConfig, result: StepResult) -> VideoVAE:
    """Return the VAE that a training step committed, frozen and in evaluation mode."""
    vae = VideoVAE(config)
    load_weights(vae, read_weights(result))
    return vae.eval().requires_grad_(False)


def load_spatial_weights(vae: VideoVAE, weights: dict[str, Tensor]) -> None:
    """Set the frame VAE inside a video VAE from weights with diffusers' names."""
    load_weights(vae.spatial_vae.module, weights)


def is_video_vae(weights: dict[str, Tensor]) -> bool:
    """Tell whether these are a whole video VAE's weights rather than a frame VAE's."""
    return any(name.startswith(_SPATIAL_PREFIX) for name in weights)


def read_weight_file(path: str) -> dict[str, Tensor]:
    """Read weights from a local file."""
    return read_state_dict(Path(path))
