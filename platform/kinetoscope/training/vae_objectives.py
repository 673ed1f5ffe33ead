"""What the VAE stages minimise.

Shapes: ``B`` batch, ``C`` pixel channels, ``T H W`` pixels, ``Z`` latent channels, ``t h w``
latents.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from kinetoscope.models.config import VAELossConfig
from kinetoscope.models.spatial_vae import SpatialVAE
from kinetoscope.models.vae_losses import VAELoss, identity_loss
from kinetoscope.models.video_vae import VideoVAE
from kinetoscope.training.config import TrainVAEConfig
from kinetoscope.training.engine.base import Objective, Tensors

_TERMS = ("reconstruction", "perceptual", "kl")


class SpatialVAEObjective(Objective):
    """Reconstruct single frames: ``pixels`` B C 1 H W and ``noise`` B Z h w."""

    parts = _TERMS

    def __init__(self, model: SpatialVAE, loss: VAELossConfig) -> None:
        super().__init__()
        self.model: SpatialVAE = model
        self.losses = VAELoss(loss)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss`` and its terms, each ``B``."""
        pixels = tensors["pixels"]
        posterior = self.model.encode(pixels[:, :, 0])
        decoded = self.model.decode(posterior.sample(tensors["noise"]))
        return _with_sum(self.losses(decoded.unsqueeze(2), pixels, posterior))


class VideoVAEObjective(Objective):
    """A stage of the video VAE: ``pixels`` B C T H W and ``noise`` B Z t h w.

    With the objective ``spatial_latents`` the temporal VAE reconstructs the frame latents, a fixed
    target even where the frame VAE learns; with ``pixels`` the whole model does its job.
    """

    parts = (*_TERMS, "identity")

    def __init__(self, model: VideoVAE, config: TrainVAEConfig) -> None:
        super().__init__()
        self.model: VideoVAE = model
        self.losses = VAELoss(config.loss)
        self._config = config
        if config.freeze_spatial:
            model.spatial_vae.requires_grad_(False)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss`` and its terms, each ``B``; ``identity`` for images only."""
        pixels, noise = tensors["pixels"], tensors["noise"]
        frozen = self._config.freeze_spatial
        with torch.no_grad() if frozen else nullcontext():
            frame_latents = self.model.encode_frames(pixels)
        posterior = self.model.encode_time(frame_latents)
        z = posterior.sample(noise)
        decoded = self.model.decode_time(z, pixels.shape[2])
        if self._config.objective == "pixels":
            return _with_sum(self.losses(self.model.decode_frames(decoded), pixels, posterior))
        terms = self.losses(decoded, frame_latents, posterior)
        if self._config.identity_loss and pixels.shape[2] == 1:
            terms["identity"] = identity_loss(z, frame_latents, self._config.loss)
        return _with_sum(terms)


def _with_sum(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": torch.stack(list(terms.values())).sum(0), **terms}
