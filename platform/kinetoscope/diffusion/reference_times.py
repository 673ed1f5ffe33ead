"""Open-Sora 1.2's own times, where they differ from ours: the compat mode ``reference_times``.

The reference counts latent frames as ``num_frames // 17 * 5``: 0 for 2 to 16 frames, so that such
clips never see noise (and pure noise becomes nan), and short by up to 4 for lengths that are no
multiple of 17.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_FRAMES = 17
_CHUNK_LATENT_FRAMES = 5


@dataclass(frozen=True, slots=True)
class ReferenceBase:
    """What `reference_shift` measures sizes by.

    Attributes:
        resolution: pixels of the image whose times are not moved.
        num_frames: latent frames of the clip whose times are not moved.
        scale: factor of the ratio.
        num_timesteps: the time of pure noise.
    """

    resolution: float = 512 * 512
    num_frames: float = 1
    scale: float = 1.0
    num_timesteps: int = 1000


def reference_shift(
    timestep: Tensor,
    height: Tensor,
    width: Tensor,
    num_frames: Tensor,
    *,
    base: ReferenceBase | None = None,
) -> Tensor:
    """Move times by size exactly as the reference does, in its order of rounding.

    Args:
        timestep: in [0, ``base.num_timesteps``].
        height: pixels, broadcast against ``timestep``. Sizes in bfloat16 are rounded as the
            reference's are when it runs in bfloat16.
        width: pixels.
        num_frames: pixel frames. The first element alone tells whether the batch is of images.
        base: the reference's defaults by default.
    """
    base = base or ReferenceBase()
    tau = timestep / base.num_timesteps
    ratio_space = (height * width / base.resolution).sqrt()
    if num_frames.flatten()[0] == 1:
        latent_frames = torch.ones_like(num_frames)
    else:
        latent_frames = num_frames // _CHUNK_FRAMES * _CHUNK_LATENT_FRAMES
    ratio = ratio_space * (latent_frames / base.num_frames).sqrt() * base.scale
    return ratio * tau / (1 + (ratio - 1) * tau) * base.num_timesteps
