"""The weights that training steps committed."""

from __future__ import annotations

from torch import Tensor

from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.models.vae.video import VideoVAE
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.open import open_store
from kinetoscope.training.engine.torch_ddp import load_weights as restore_weights


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
