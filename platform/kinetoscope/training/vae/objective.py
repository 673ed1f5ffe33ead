"""What the stages of the video VAE minimise.

Shapes: ``B`` batch, ``C`` pixel channels, ``T H W`` pixels, ``Z`` latent channels, ``t h w``
latents.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.losses import VAELoss, identity_loss
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.training.engine.base import Companion, Objective, Tensors
from kinetoscope.training.engine.transfer import pixels_in
from kinetoscope.training.vae.adversary import Adversary
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.spatial_objective import TERMS, learned_logvar, with_sum


class VideoVAEObjective(Objective):
    """A stage of the video VAE: ``pixels`` (see `pixels_in`) and ``noise`` B Z t h w.

    With the objective ``spatial_latents`` the temporal VAE reconstructs the frame latents, a fixed
    target even where the spatial VAE learns; with ``pixels`` the whole model does its job, against
    the adversary where there is one.
    """

    parts = (*TERMS, "identity", *Adversary.parts)

    def __init__(
        self, model: VideoVAE, config: TrainVAEConfig, adversary: Adversary | None = None
    ) -> None:
        super().__init__()
        self.adversary = adversary
        self.model: VideoVAE = model
        self.losses = VAELoss(config.loss)
        self._config = config
        if config.freeze_spatial:
            model.spatial_vae.requires_grad_(False)

    def companions(self) -> dict[str, Companion]:
        """Return the adversary, and the log-variance where it is learned."""
        companions = learned_logvar(self.losses)
        if self.adversary is not None:
            companions["adversary"] = Companion(self.adversary, self.adversary.config.lr)
        return companions

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss`` and its terms, each ``B``; ``identity`` for images only."""
        pixels, noise = pixels_in(tensors), tensors["noise"]
        frozen = self._config.freeze_spatial
        with torch.no_grad() if frozen else nullcontext():
            frame_latents = self.model.encode_frames(pixels)
        posterior = self.model.encode_time(frame_latents)
        z = posterior.sample(noise)
        decoded = self.model.decode_time(z, pixels.shape[2])
        if self._config.objective == "pixels":
            return with_sum(self._pixel_terms(decoded, pixels, posterior))
        terms = self.losses(decoded, frame_latents, posterior)
        if self._config.identity_loss and pixels.shape[2] == 1:
            terms["identity"] = identity_loss(z, frame_latents, self._config.loss)
        return with_sum(terms)

    def _pixel_terms(
        self, frame_latents: Tensor, pixels: Tensor, posterior: Posterior
    ) -> dict[str, Tensor]:
        decoded = self.model.decode_frames(frame_latents)
        terms: dict[str, Tensor] = self.losses(decoded, pixels, posterior)
        if self.adversary is None:
            return terms
        likelihood = [value for name, value in terms.items() if name != "kl"]
        played = self.adversary(
            decoded,
            pixels,
            reconstruction_B=torch.stack(likelihood).sum(0),
            # The reference's choice, which is trained in every stage.
            last_layer=self.model.temporal_vae.decoder.conv_out.conv.weight,
            step=self.step,
        )
        return {**terms, **played}
