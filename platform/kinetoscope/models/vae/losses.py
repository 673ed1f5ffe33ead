"""Losses of the VAE stages, one value per sample so that a trainer can weight by samples.

Normalisation (``config.reduction``): with ``sum``, as in Open-Sora 1.2, a reconstruction is summed
over channels, height and width and averaged over frames, and the KL is summed over all latent
elements of a clip; with ``mean`` both are averages over elements, so that weights keep their
meaning when the size changes. The reference divides its sums by the numbers of frames and of clips
in the batch, which is the batch mean of these per-sample values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.dtypes import widened
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.perceptual import PerceptualDistance


class LogVariance(nn.Module):
    """The logarithm of the variance of reconstructed elements, one number for all of them.

    Args:
        init: its first value.
        learned: whether it is trained.
    """

    def __init__(self, init: float, *, learned: bool) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(init), requires_grad=learned)


class VAELoss(nn.Module):
    """Reconstruction, perceptual and KL terms of a clip, each with its weight applied.

    The terms but the KL are the negative log-likelihood ``rec / exp(s) + s`` of every element,
    with the log-variance ``s`` of the config and ``rec`` its distance from the target, to which the
    perceptual distance of its frame belongs.

    Args:
        config: weights and normalisation.
        distance: maps two batches of images ``N C H W`` to ``N`` distances (in any shape of ``N``
            elements); default: LPIPS with the config's backbone and weight file, built only when
            its weight is not zero.

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
        self.logvar = LogVariance(config.logvar_init, learned=config.learn_logvar)

    def forward(
        self,
        prediction_BCTHW: Tensor,
        target_BCTHW: Tensor,
        posterior: Posterior | None = None,
        *,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return ``reconstruction``, ``perceptual``, ``log_variance`` and ``kl``, each ``B``.

        Their sum is the loss. A term with weight 0 is left out, as are ``kl`` without a posterior
        and ``log_variance`` where it is 0 for good.

        Args:
            prediction_BCTHW: reconstructed pixels.
            target_BCTHW: pixels in [-1, 1].
            posterior: of the clips.
            weights: of the elements, for all terms but the KL; of any shape that broadcasts to
                ``B C T H W``.
        """
        config = self.config
        terms = {
            "reconstruction": reconstruction_loss(
                prediction_BCTHW, target_BCTHW, config, weights=weights
            )
        }
        mass = _frame_mass(weights, target_BCTHW, config)
        if self.distance is not None and config.perceptual_weight > 0:
            per_frame = self._distance(prediction_BCTHW, _target(target_BCTHW, config))
            terms["perceptual"] = config.perceptual_weight * (per_frame * mass).mean(1)
        if config.learn_logvar or config.logvar_init != 0:
            logvar = self.logvar.value
            terms = {name: term * torch.exp(-logvar) for name, term in terms.items()}
            terms["log_variance"] = logvar * mass.mean(1)
        if posterior is not None and config.kl_weight > 0:
            terms["kl"] = kl_loss(posterior, config)
        return terms

    def _distance(self, prediction_BCTHW: Tensor, target_BCTHW: Tensor) -> Tensor:
        assert self.distance is not None
        frames = rearrange(prediction_BCTHW, "B C T H W -> (B T) C H W")
        targets = rearrange(target_BCTHW, "B C T H W -> (B T) C H W")
        per_frame = self.distance(frames, targets).flatten()
        return rearrange(per_frame, "(B T) -> B T", B=target_BCTHW.shape[0])


def reconstruction_loss(
    prediction_BCTHW: Tensor,
    target_BCTHW: Tensor,
    config: VAELossConfig,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the weighted L1 and squared errors per sample, ``B``.

    Pixels and frame latents alike. The target is detached unless the config says otherwise: where
    it is itself a network's output (frame latents), its gradient would reward shrinking it, which
    the reference overlooks.

    Args:
        prediction_BCTHW: what was reconstructed; half precision is summed in fp32.
        target_BCTHW: what it should be.
        config: weights of the errors and normalisation.
        weights: of the elements, broadcast to ``B C T H W``; default: 1.
    """
    error = widened(prediction_BCTHW) - widened(_target(target_BCTHW, config))
    total = error.new_zeros(error.shape[0])
    if config.l1_weight > 0:
        total = total + config.l1_weight * _reduce(error.abs(), weights, config)
    if config.mse_weight > 0:
        total = total + config.mse_weight * _reduce(error.square(), weights, config)
    return total


def kl_loss(posterior: Posterior, config: VAELossConfig) -> Tensor:
    """Return the weighted KL divergence from the standard normal per sample, ``B``."""
    kl = posterior.kl()
    if config.reduction == "mean":
        kl = kl / posterior.mean[0].numel()
    return config.kl_weight * kl


def identity_loss(z_BZthw: Tensor, frame_latents_BZThw: Tensor, config: VAELossConfig) -> Tensor:
    """Return how far the temporal VAE's latents of single images are from the frame latents, ``B``.

    It keeps images in the spatial VAE's own latent space, so that image-trained diffusion weights
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


def _target(target_BCTHW: Tensor, config: VAELossConfig) -> Tensor:
    return target_BCTHW.detach() if config.detach_target else target_BCTHW


def _frame_mass(weights: Tensor | None, like_BCTHW: Tensor, config: VAELossConfig) -> Tensor:
    """Return what a value that all elements of a frame share counts for: ``B T``."""
    # The reference adds such values to every element before it sums them.
    count = like_BCTHW[0, :, 0].numel() if config.reduction == "sum" else 1
    if weights is None:
        return like_BCTHW.new_full((like_BCTHW.shape[0], like_BCTHW.shape[2]), count)
    return count * weights.expand(like_BCTHW.shape).mean((1, 3, 4))


def _reduce(error_BCTHW: Tensor, weights: Tensor | None, config: VAELossConfig) -> Tensor:
    per_sample = (error_BCTHW if weights is None else error_BCTHW * weights).flatten(1)
    if config.reduction == "mean":
        return per_sample.mean(1)
    return per_sample.sum(1) / error_BCTHW.shape[2]
