"""What the diffusion transformer's stages minimise: the rectified-flow loss.

Shapes: ``B`` batch, ``Z`` latent channels, ``t h w`` latents, ``S`` text tokens, ``P`` rows of
packed text, ``D`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes, shift_by_size, training_loss
from kinetoscope.models.base import Transformer, VideoAutoencoder
from kinetoscope.models.posterior import Posterior
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.transfer import pixels_in


class FlowObjective(Objective):
    """Predict the velocity from noisy latents.

    Tensors of a batch: ``mean`` and ``logvar`` B Z t h w of the clips' posteriors (or ``pixels``,
    where a VAE is given, as `pixels_in` takes them); ``draw`` and ``noise`` B Z t h w, standard
    normal; ``tau`` B, times before their shift by size; ``text`` P D and ``text_places`` P 2,
    packed (`models.layers.packed_text.pack`), or padded ``text`` B S D and ``text_mask`` B S, which
    a GPU has to be waited for; ``drop_text`` B; ``height``, ``width`` (pixels), ``num_frames`` (of
    pixels) and ``fps``, each B. ``frame_mask`` B t, which may be left out, is False for the frames
    that are conditions: these stay clean and have no part in the loss.

    Args:
        model: the transformer.
        flow: how times are shifted.
        shift: per channel; latents are trained as ``(z - shift) / scale``.
        scale: per channel.
        vae: encodes ``pixels``; frozen. None: batches bring ``mean`` and ``logvar``.
    """

    def __init__(
        self,
        model: Transformer,
        flow: RectifiedFlowConfig,
        *,
        shift: Tensor,
        scale: Tensor,
        vae: VideoAutoencoder | None = None,
    ) -> None:
        super().__init__()
        self.model: Transformer = model
        self._flow = flow
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1, 1).float())
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1).float())
        self.vae = vae.requires_grad_(False) if vae is not None else None

    def parallelise(self, group: ProcessGroup) -> None:
        """Share the tokens of each sample among the ranks of a group."""
        self.model.parallelise(group)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return ``loss``, ``B``."""
        x0 = (self._posterior(tensors).sample(tensors["draw"]) - self.shift) / self.scale
        sizes = ClipSizes(
            tensors["height"], tensors["width"], tensors["num_frames"], latent_frames=x0.shape[2]
        )
        timestep = shift_by_size(tensors["tau"] * self._flow.num_timesteps, sizes, self._flow)
        conditions = Conditions(
            text_BSD=tensors["text"],
            text_mask_BS=tensors.get("text_mask"),
            height_B=tensors["height"],
            width_B=tensors["width"],
            fps_B=tensors["fps"],
            frame_mask_Bt=tensors.get("frame_mask"),
            drop_text_B=tensors["drop_text"],
            text_places_P2=tensors.get("text_places"),
        )
        loss = training_loss(self.model, x0, tensors["noise"], timestep, conditions, self._flow)
        return {"loss": loss}

    def _posterior(self, tensors: Tensors) -> Posterior:
        if self.vae is None:
            return Posterior(tensors["mean"], tensors["logvar"])
        with torch.no_grad():
            posterior: Posterior = self.vae.encode(pixels_in(tensors))
            return posterior
