"""The weights that training steps committed."""

from __future__ import annotations

from torch import Tensor

from kinetoscope.artifacts.files import mendable
from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.checkpoints.restore import restore_weights
from kinetoscope.core.errors import NotFoundError
from kinetoscope.models.base import VideoAutoencoder, build_autoencoder
from kinetoscope.models.config import VideoAutoencoderConfig
from kinetoscope.steps.contract import StepResult, step_identity
from kinetoscope.storage.open import open_store


def read_weights(result: StepResult, *, averaged: bool = False) -> dict[str, Tensor]:
    """Return the weights of the checkpoint that a step committed.

    Args:
        result: of a training step.
        averaged: take the averaged weights (EMA) where there are any.

    Raises:
        CorruptError: a file is not what was saved.
    """
    store = open_store(result.artifact_uri("checkpoint"))
    identity = step_identity(result.step, result.fingerprint)
    with mendable(result):
        if averaged:
            try:
                saved = read_checkpoint(store, groups=["ema"], identity=identity)
                return dict(saved.tensors["ema"])
            except NotFoundError:
                pass
        saved = read_checkpoint(store, groups=["weights"], identity=identity)
        return dict(saved.tensors["weights"])


def load_autoencoder(config: VideoAutoencoderConfig, result: StepResult) -> VideoAutoencoder:
    """Return the autoencoder that a training step committed, frozen and in evaluation mode."""
    autoencoder = build_autoencoder(config)
    restore_weights(autoencoder, read_weights(result))
    return autoencoder.eval().requires_grad_(False)
