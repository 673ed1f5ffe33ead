"""Where a model's weights come from when a training step begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.core.keys import random_key
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.models.vae.video import VideoVAE
from kinetoscope.models.weights.files import open_weights
from kinetoscope.models.weights.load import load_weights
from kinetoscope.models.weights.open_sora.layouts import (
    from_open_sora_vae,
    is_video_vae,
    spatial_part,
)
from kinetoscope.models.weights.open_sora.load import load_stdit_weights
from kinetoscope.models.weights.report import LoadReport
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.open import open_store
from kinetoscope.training.engine.torch_ddp import load_weights as restore_weights

Module = TypeVar("Module", bound=nn.Module)


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
    restore_weights(vae, read_weights(result))
    return vae.eval().requires_grad_(False)


def start_video_vae(vae: VideoVAE, weights: Mapping[str, Tensor]) -> LoadReport:
    """Set a video VAE from weights of its own, or the frame VAE inside it from a frame VAE's.

    Args:
        vae: is changed in place.
        weights: by our names, the reference's or diffusers'.

    Raises:
        ConfigError: the weights do not fit.
    """
    if is_video_vae(weights):
        return load_weights(vae, from_open_sora_vae(weights))
    return load_weights(vae.spatial_vae.module, spatial_part(weights))


def start_transformer(
    model: STDiT, path: str, layout: Literal["auto", "stdit", "pixart"]
) -> LoadReport:
    """Set a transformer from a weight file or folder that others made.

    Args:
        model: initialised; changed in place. What the weights have no place for stays as it is.
        path: see `open_weights`.
        layout: STDiT's or PixArt's; ``auto`` looks at the names.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is damaged, or the weights do not fit.
    """
    return load_stdit_weights(model, open_weights(Path(path)), layout=layout)
