"""What the diffusion transformer's stages minimise: the rectified-flow loss.

Shapes: ``B`` batch, ``Z`` latent channels, ``t h w`` latents, ``S`` text tokens, ``D`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.diffusion.rectified_flow import (
    MODEL_TIME_SCALE,
    add_noise,
    flow_loss,
    shift_times,
    size_ratio,
    velocity_target,
)
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.stdit import STDiT
from kinetoscope.models.video_vae import VideoVAE
from kinetoscope.training.engine.base import Objective, Tensors


class FlowObjective(Objective):
    """Predict the velocity from noisy latents.

    Tensors of a batch: ``mean`` and ``logvar`` B Z t h w of the clips' posteriors (or ``pixels``
    B C T H W, where a VAE is given); ``draw`` and ``noise`` B Z t h w, standard normal; ``tau`` B,
    times before their shift by size; ``text`` B S D, ``text_mask`` B S and ``drop_text`` B;
    ``height``, ``width`` (pixels) and ``fps``, each B.

    Args:
        model: the transformer.
        flow: how times are shifted.
        shift: per channel; latents are trained as ``(z - shift) / scale``.
        scale: per channel.
        vae: encodes ``pixels``; frozen. None: batches bring ``mean`` and ``logvar``.
    """

    def __init__(
        self,
        model: STDiT,
        flow: RectifiedFlowConfig,
        *,
        shift: Tensor,
        scale: Tensor,
        vae: VideoVAE | None = None,
    ) -> None:
        super().__init__()
        self.model: STDiT = model
        self._flow = flow
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1, 1).float())
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1).float())
        self.vae = vae.requires_grad_(False) if vae is not None else None

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss``, ``B``."""
        x0 = (self._posterior(tensors).sample(tensors["draw"]) - self.shift) / self.scale
        noise = tensors["noise"]
        # One batch has one size, so its first sample speaks for all.
        height, width = int(tensors["height"][0]), int(tensors["width"][0])
        ratio = size_ratio(height, width, x0.shape[2], self._flow)
        tau = shift_times(tensors["tau"], ratio)
        prediction = self.model(
            add_noise(x0, noise, tau),
            tau * MODEL_TIME_SCALE,
            tensors["text"],
            tensors["text_mask"],
            height_B=tensors["height"],
            width_B=tensors["width"],
            fps_B=tensors["fps"],
            drop_text_B=tensors["drop_text"],
        )
        return {"loss": flow_loss(prediction, velocity_target(x0, noise))}

    def _posterior(self, tensors: Tensors) -> Posterior:
        if self.vae is None:
            return Posterior(tensors["mean"], tensors["logvar"])
        with torch.no_grad():
            return self.vae.encode(tensors["pixels"])
