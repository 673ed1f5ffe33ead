"""What training of the spatial VAE minimises.

Shapes: ``B`` batch, ``C`` pixel channels, ``H W`` pixels, ``Z`` latent channels, ``h w`` latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.losses import VAELoss
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.training.engine.base import Companion, Objective, Tensors
from kinetoscope.training.engine.transfer import pixels_in

TERMS = ("reconstruction", "perceptual", "log_variance", "kl")


class SpatialVAEObjective(Objective):
    """Reconstruct single frames: ``pixels`` (see `pixels_in`) and ``noise`` B Z h w."""

    parts = TERMS

    def __init__(self, model: SpatialVAE, loss: VAELossConfig) -> None:
        super().__init__()
        self.model: SpatialVAE = model
        self.losses = VAELoss(loss)

    def companions(self) -> dict[str, Companion]:
        """Return the log-variance where it is learned."""
        return learned_logvar(self.losses)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss`` and its terms, each ``B``."""
        pixels = pixels_in(tensors)
        posterior = self.model.encode(pixels[:, :, 0])
        decoded = self.model.decode(posterior.sample(tensors["noise"]))
        return with_sum(self.losses(decoded.unsqueeze(2), pixels, posterior))


def learned_logvar(losses: VAELoss) -> dict[str, Companion]:
    """Return the log-variance as a companion where it is learned."""
    return {"logvar": Companion(losses.logvar)} if losses.config.learn_logvar else {}


def with_sum(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the terms with their sum as ``loss``."""
    return {"loss": torch.stack(list(terms.values())).sum(0), **terms}
