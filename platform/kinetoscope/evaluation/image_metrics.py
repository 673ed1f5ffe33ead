"""PSNR and SSIM of frames.

Shape letters: ``N`` frames, ``C`` channels, ``H W`` height and width. Frames are floats in [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from kinetoscope.evaluation.config import SSIM_WINDOW_PX

if TYPE_CHECKING:
    from torch import Tensor

PSNR_CAP_DB = 100.0
"""PSNR of frames that are equal (mean squared error below 1e-10)."""

_SMALLEST_MSE = 1e-10
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def psnr(frames_NCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB, shape ``N``, at most 100."""
    _check(frames_NCHW, reference_NCHW)
    difference = frames_NCHW.double() - reference_NCHW.double()
    mse = difference.square().mean(dim=(1, 2, 3))
    return torch.where(
        mse < _SMALLEST_MSE, PSNR_CAP_DB, -10 * torch.log10(mse.clamp_min(_SMALLEST_MSE))
    )


def ssim(frames_NCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
    """Return the structural similarity of each frame, shape ``N``, in [-1, 1].

    Wang et al. 2004: Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, per channel,
    over the positions where the window lies inside the frame.
    """
    _check(frames_NCHW, reference_NCHW)
    if min(frames_NCHW.shape[-2:]) < SSIM_WINDOW_PX:
        raise ValueError(f"frames of {tuple(frames_NCHW.shape[-2:])}: SSIM needs 11x11 or more")
    x, y = frames_NCHW.double(), reference_NCHW.double()
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(x_NCHW: Tensor) -> Tensor:
    offsets = (
        torch.arange(SSIM_WINDOW_PX, dtype=x_NCHW.dtype, device=x_NCHW.device) - SSIM_WINDOW_PX // 2
    )
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    channels = x_NCHW.shape[1]
    rows = weights.view(1, 1, SSIM_WINDOW_PX, 1).expand(channels, 1, -1, 1)
    columns = weights.view(1, 1, 1, SSIM_WINDOW_PX).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(x_NCHW, rows, groups=channels), columns, groups=channels)


def _check(frames_NCHW: Tensor, reference_NCHW: Tensor) -> None:
    if frames_NCHW.ndim != 4 or frames_NCHW.shape != reference_NCHW.shape:  # noqa: PLR2004
        raise ValueError(
            f"two equal shapes N C H W are needed, not {tuple(frames_NCHW.shape)} and "
            f"{tuple(reference_NCHW.shape)}"
        )
