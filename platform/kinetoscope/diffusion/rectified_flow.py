"""Rectified flow (Liu et al. 2022; Esser et al. 2024) as Open-Sora 1.2 trains it.

Time ``tau`` is in [0, 1]: 0 is data, 1 is noise, and ``x_tau = (1 - tau) x0 + tau noise``. The
model predicts the velocity ``x0 - noise``, which points to the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinetoscope.core.keys import uniform
from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.diffusion.flow_model import Conditions, FlowModel, predict_velocity
from kinetoscope.diffusion.reference_times import ReferenceBase, reference_shift


@dataclass(frozen=True, slots=True)
class ClipSizes:
    """Sizes of a batch's clips, by which their times are shifted.

    Attributes:
        height_B: pixels, float.
        width_B: pixels, float.
        num_frames_B: frames of pixels, float; read by the compat mode ``reference_times`` alone.
        latent_frames: frames of the latents, as the VAE makes them; 1 for images.
    """

    height_B: Tensor
    width_B: Tensor
    num_frames_B: Tensor
    latent_frames: int

    @classmethod
    def of(cls, size: tuple[int, int, int], latent_frames: int, *, count: int = 1) -> ClipSizes:
        """Return the sizes of ``count`` clips of ``(T, H, W)`` pixels."""
        num_frames, height, width = (torch.full((count,), float(side)) for side in size)
        return cls(height, width, num_frames, latent_frames)


def draw_times(keys: Sequence[int], config: RectifiedFlowConfig) -> Tensor:
    """Draw one training time per sample, before any shift by size.

    Args:
        keys: one random key per sample (`core.keys.random_key`), its time depends on it alone.
        config: the distribution.

    Returns:
        ``tau_B`` in (0, 1), float32; discrete times in [0, 1).
    """
    # half a grid step up: 0 itself would become an infinite logit
    draws = torch.tensor([float(uniform(key, 0)) + 2.0**-54 for key in keys], dtype=torch.float64)
    if config.timestep_distribution == "uniform":
        return draws.float()
    if config.timestep_distribution == "discrete":
        return ((draws * config.num_timesteps).floor() / config.num_timesteps).float()
    normal = torch.special.ndtri(draws)
    return torch.sigmoid(config.logit_mean + config.logit_std * normal).float()


def size_ratio(sizes: ClipSizes, config: RectifiedFlowConfig) -> Tensor:
    """Return how strongly times move towards noise for clips of these sizes (1 is not at all).

    ``sqrt(height * width) / base_size_px * sqrt(latent_frames) * shift_scale``, ``B``, float64.
    With the VAE's true number of latent frames it is right for any length (`reference_times` says
    what Open-Sora 1.2 does).

    Args:
        sizes: of the clips.
        config: base size and scale.
    """
    side_B = (sizes.height_B.double() * sizes.width_B.double()).sqrt()
    return side_B / config.base_size_px * math.sqrt(sizes.latent_frames) * config.shift_scale


def shift_times(tau: Tensor, ratio: float | Tensor) -> Tensor:
    """Move times towards noise: ``r tau / (1 + (r - 1) tau)``; 0 and 1 stay where they are."""
    moved = ratio * tau
    return moved / (1 - tau + moved)


def shift_by_size(timestep: Tensor, sizes: ClipSizes, config: RectifiedFlowConfig) -> Tensor:
    """Move the model's times as the config says, float32.

    Args:
        timestep: ``(..., B)`` in [0, ``config.num_timesteps``].
        sizes: of the clips, on the same device.
        config: whether and how to shift.
    """
    if not config.shift_by_size:
        return timestep.float()
    if config.reference_times:
        base = ReferenceBase(
            resolution=config.base_size_px**2,
            scale=config.shift_scale,
            num_timesteps=config.num_timesteps,
        )
        height_B, width_B, num_frames_B = sizes.height_B, sizes.width_B, sizes.num_frames_B
        return reference_shift(timestep, height_B, width_B, num_frames_B, base=base)
    tau = timestep.double() / config.num_timesteps
    return (shift_times(tau, size_ratio(sizes, config)) * config.num_timesteps).float()


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
    prediction: Tensor,
    target_BZthw: Tensor,
    frame_mask_Bt: Tensor | None = None,
    *,
    nan_without_frames: bool = False,
) -> Tensor:
    """Return the mean squared error of each sample, ``B``.

    Args:
        prediction: ``(B, >= Z, t, h, w)``; channels after the first ``Z`` are ignored.
        target_BZthw: the velocity.
        frame_mask_Bt: False takes a frame out of the mean.
        nan_without_frames: what the loss of a sample with no frame left is: nan as in Open-Sora
            1.2, else 0.
    """
    channels = target_BZthw.shape[1]
    error_Bt = (prediction[:, :channels] - target_BZthw).square().mean(dim=(1, 3, 4))
    if frame_mask_Bt is None:
        return error_Bt.mean(dim=1)
    weight = frame_mask_Bt.to(error_Bt.dtype)
    least = 0 if nan_without_frames else 1
    return (error_Bt * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=least)


def training_loss(
    model: FlowModel,
    x0_BZthw: Tensor,
    noise_BZthw: Tensor,
    timestep_B: Tensor,
    conditions: Conditions,
    config: RectifiedFlowConfig,
) -> Tensor:
    """Return the loss ``B`` of predicting the velocity at given times.

    Args:
        model: predicts the velocity.
        x0_BZthw: clean latents.
        noise_BZthw: standard normal.
        timestep_B: the model's times, already shifted (`shift_by_size`).
        conditions: text, size, frame rate; frames whose mask (bool) is False stay clean, are told
            to the model as such and have no part in the loss.
        config: the model's time of pure noise.
    """
    mask_Bt = conditions.frame_mask_Bt
    x_BZthw = add_noise(x0_BZthw, noise_BZthw, timestep_B / config.num_timesteps, mask_Bt)
    return flow_loss(
        predict_velocity(model, x_BZthw, timestep_B, conditions),
        velocity_target(x0_BZthw, noise_BZthw),
        mask_Bt,
        nan_without_frames=config.nan_without_frames,
    )


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
