"""Rectified flow (Liu et al. 2022; Esser et al. 2024) as Open-Sora 1.2 trains it.

Time ``tau`` is in [0, 1]: 0 is data, 1 is noise, and ``x_tau = (1 - tau) x0 + tau noise``. The
model predicts the velocity ``x0 - noise``, which points to the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kinetoscope.core.keys import uniform
from kinetoscope.diffusion.config import RectifiedFlowConfig

MODEL_TIME_SCALE = 1000.0
"""The model's timestep is ``tau`` times this."""


def draw_times(keys: Sequence[int], config: RectifiedFlowConfig) -> Tensor:
    """Draw one training time per sample, before any shift by size.

    Args:
        keys: one random key per sample (`core.keys.random_key`), its time depends on it alone.
        config: the distribution, logit-normal or uniform.

    Returns:
        ``tau_B`` in (0, 1), float32.
    """
    # half a grid step up: 0 itself would become an infinite logit
    draws = torch.tensor([float(uniform(key, 0)) + 2.0**-54 for key in keys], dtype=torch.float64)
    if config.timestep_distribution == "uniform":
        return draws.float()
    normal = torch.special.ndtri(draws)
    return torch.sigmoid(config.logit_mean + config.logit_std * normal).float()


def size_ratio(height: int, width: int, latent_frames: int, config: RectifiedFlowConfig) -> float:
    """Return how strongly times move towards noise for clips of this size (1 is not at all).

    ``sqrt(height * width) / base_size_px * sqrt(latent_frames) * shift_scale``. With the VAE's true
    number of latent frames it is right for any length; Open-Sora 1.2 counts
    ``num_frames // 17 * 5``, which is 0 below 17 frames, so that such clips never saw noise.

    Args:
        height: pixels.
        width: pixels.
        latent_frames: latent frames of the clip; 1 for an image.
        config: base size and scale, or no shift.
    """
    if not config.shift_by_size:
        return 1.0
    return (
        math.sqrt(height * width) / config.base_size_px * math.sqrt(latent_frames)
    ) * config.shift_scale


def shift_times(tau: Tensor, ratio: float | Tensor) -> Tensor:
    """Move times towards noise: ``r tau / (1 + (r - 1) tau)``; 0 and 1 stay where they are."""
    return ratio * tau / (1 + (ratio - 1) * tau)


def add_noise(
    x0_BZthw: Tensor, noise_BZthw: Tensor, tau_B: Tensor, frame_mask_Bt: Tensor | None = None
) -> Tensor:
    """Return ``x_tau``; condition frames (mask False) have time 0 and stay clean."""
    tau = tau_B[:, None, None, None, None].to(x0_BZthw.dtype)
    if frame_mask_Bt is not None:
        tau = tau * frame_mask_Bt[:, None, :, None, None]
    return (1 - tau) * x0_BZthw + tau * noise_BZthw


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """Return what the model should predict, ``x0 - noise``."""
    return x0 - noise


def flow_loss(
    prediction: Tensor, target_BZthw: Tensor, frame_mask_Bt: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of each sample, ``B``.

    Args:
        prediction: ``(B, >= Z, t, h, w)``; channels after the first ``Z`` are ignored.
        target_BZthw: the velocity.
        frame_mask_Bt: False takes a frame out of the mean. A sample with no frame left has loss 0.
    """
    channels = target_BZthw.shape[1]
    error_Bt = (prediction[:, :channels] - target_BZthw).square().mean(dim=(1, 3, 4))
    if frame_mask_Bt is None:
        return error_Bt.mean(dim=1)
    weight = frame_mask_Bt.to(error_Bt.dtype)
    return (error_Bt * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def keyed_noise(
    keys: Sequence[int],
    shape: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return standard normal noise ``(B, *shape)``.

    Args:
        keys: one random key per sample; a sample's noise depends on its key and ``shape`` alone.
        shape: of one sample, e.g. ``(Z, t, h, w)``.
        device: where the result goes. The draws are always made on the CPU, in float32.
        dtype: of the result.
    """
    noise = torch.stack(
        [torch.randn(*shape, generator=torch.Generator().manual_seed(key)) for key in keys]
    )
    return noise.to(device=device, dtype=dtype)
