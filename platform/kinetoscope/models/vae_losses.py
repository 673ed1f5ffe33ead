"""Losses of the VAE stages, one value per sample so that a trainer can weight by samples.

Normalisation (``config.reduction``): with ``sum``, as in Open-Sora 1.2, a reconstruction is summed
over channels, height and width and averaged over frames, and the KL is summed over all latent
elements of a clip; with ``mean`` both are averages over elements, so that weights keep their
meaning when the size changes. The reference divides its sums by the numbers of frames and of clips
in the batch, which is the batch mean of these per-sample values.
"""

from __future__ import annotations

from collections.abc import Callable

from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.config import VAELossConfig
from kinetoscope.models.perceptual import PerceptualDistance
from kinetoscope.models.posterior import Posterior


class VAELoss(nn.Module):
    """Reconstruction, perceptual and KL terms of a clip, each with its weight applied.

    Args:
        config: weights and normalisation.
        distance: maps two batches of images ``N C H W`` to ``N``; default: LPIPS with the config's
            backbone and weight file, built only when its weight is not zero.

    Raises:
        ConfigError: a perceptual term is wanted without a weight file.
    """

    def __init__(
        self, config: VAELossConfig, distance: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        if distance is None and config.perceptual_weight > 0:
            distance = PerceptualDistance(
                config.perceptual_backbone, config.perceptual_weights_path
            )
        self.distance = distance

    def forward(
        self, prediction_BCTHW: Tensor, target_BCTHW: Tensor, posterior: Posterior | None = None
    ) -> dict[str, Tensor]:
        """Return the terms ``reconstruction``, ``perceptual`` and ``kl``, each ``B``; sum them.

        A term with weight 0 is left out, as is ``kl`` without a posterior.

        Args:
            prediction_BCTHW: reconstructed pixels.
            target_BCTHW: pixels in [-1, 1].
            posterior: of the clips.
        """
        config = self.config
        terms = {"reconstruction": reconstruction_loss(prediction_BCTHW, target_BCTHW, config)}
        if self.distance is not None and config.perceptual_weight > 0:
            terms["perceptual"] = self._perceptual(prediction_BCTHW, target_BCTHW)
        if posterior is not None and config.kl_weight > 0:
            terms["kl"] = kl_loss(posterior, config)
        return terms

    def _perceptual(self, prediction_BCTHW: Tensor, target_BCTHW: Tensor) -> Tensor:
        assert self.distance is not None
        frames = rearrange(prediction_BCTHW, "B C T H W -> (B T) C H W")
        targets = rearrange(target_BCTHW, "B C T H W -> (B T) C H W")
        per_frame = self.distance(frames, targets)
        per_clip = rearrange(per_frame, "(B T) -> B T", B=target_BCTHW.shape[0]).mean(1)
        # The reference adds LPIPS to every pixel before it sums them.
        num_elements = frames[0].numel() if self.config.reduction == "sum" else 1
        return self.config.perceptual_weight * num_elements * per_clip


def reconstruction_loss(
    prediction_BCTHW: Tensor, target_BCTHW: Tensor, config: VAELossConfig
) -> Tensor:
    """Return the weighted L1 and squared errors per sample, ``B``.

    Pixels and frame latents alike. The target is detached: where it is itself a network's output
    (frame latents), its gradient would reward shrinking it, which the reference overlooks.
    """
    error = prediction_BCTHW - target_BCTHW.detach()
    total = error.new_zeros(error.shape[0])
    if config.l1_weight > 0:
        total = total + config.l1_weight * _reduce(error.abs(), config)
    if config.mse_weight > 0:
        total = total + config.mse_weight * _reduce(error.square(), config)
    return total


def kl_loss(posterior: Posterior, config: VAELossConfig) -> Tensor:
    """Return the weighted KL divergence from the standard normal per sample, ``B``."""
    kl = posterior.kl()
    if config.reduction == "mean":
        kl = kl / posterior.mean[0].numel()
    return config.kl_weight * kl


def identity_loss(z_BZthw: Tensor, frame_latents_BZThw: Tensor, config: VAELossConfig) -> Tensor:
    """Return how far the temporal VAE's latents of single images are from the frame latents, ``B``.

    It keeps images in the frame VAE's own latent space, so that image-trained diffusion weights
    stay useful (Open-Sora 1.2, VAE stage 1).

    Raises:
        ValueError: the samples are not single images.
    """
    if z_BZthw.shape != frame_latents_BZThw.shape or z_BZthw.shape[2] != 1:
        raise ValueError(
            "the identity loss is for images (one frame, one latent frame), got shapes "
            f"{tuple(z_BZthw.shape)} and {tuple(frame_latents_BZThw.shape)}"
        )
    return reconstruction_loss(z_BZthw, frame_latents_BZThw, config)


def _reduce(error_BCTHW: Tensor, config: VAELossConfig) -> Tensor:
    per_sample = error_BCTHW.flatten(1)
    if config.reduction == "mean":
        return per_sample.mean(1)
    return per_sample.sum(1) / error_BCTHW.shape[2]
