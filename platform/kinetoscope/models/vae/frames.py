"""The spatial VAE over the frames of videos, ``B C T H W`` <-> ``B Z T h w``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.config import Size
from kinetoscope.models.vae.clip_pieces import joined
from kinetoscope.models.vae.config import SpatialVAEConfig
from kinetoscope.models.vae.inputs import check_latents, check_pixels
from kinetoscope.models.vae.spatial import PIXEL_CHANNELS, SpatialVAE


class FramewiseVAE(nn.Module):
    """Encodes and decodes some frames at a time; its latents are scaled.

    Args:
        config: of the spatial VAE.
        micro_batch: frames at a time; None: all.
    """

    def __init__(self, config: SpatialVAEConfig, micro_batch: int | None) -> None:
        super().__init__()
        self.scaling_factor = config.scaling_factor
        self.micro_batch = micro_batch
        self.module = SpatialVAE(config)

    def latent_size(self, size: Size) -> Size:
        """Return the latent ``(T, h, w)`` of ``(T, H, W)``; what is None stays None."""
        num_frames, height, width = size
        stride = self.module.config.stride
        return (
            num_frames,
            None if height is None else height // stride,
            None if width is None else width // stride,
        )

    def encode(self, video_BCTHW: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return scaled frame latents ``B Z T h w``.

        Args:
            video_BCTHW: pixels in [-1, 1].
            noise: standard normal ``B Z T h w`` that draws from the posterior; None takes its mode.

        Raises:
            ValueError: these are not such pixels, or frames are smaller than the stride.
        """
        stride = self.module.config.stride
        check_pixels(video_BCTHW, "B C T H W", channels=PIXEL_CHANNELS, stride=stride)
        frames = rearrange(video_BCTHW, "B C T H W -> (B T) C H W")
        draws = None if noise is None else rearrange(noise, "B Z T h w -> (B T) Z h w")
        latents = joined(self._encoded(frames, draws), frames.shape[0], dim=0)
        return rearrange(latents, "(B T) Z h w -> B Z T h w", B=video_BCTHW.shape[0])

    def decode(self, latents_BZThw: Tensor) -> Tensor:
        """Return pixels ``B C T H W`` of scaled frame latents.

        Raises:
            ValueError: these are not such latents, or there are none.
        """
        check_latents(latents_BZThw, "B Z T h w", channels=self.module.config.latent_channels)
        frames = rearrange(latents_BZThw, "B Z T h w -> (B T) Z h w")
        parts = torch.split(frames, self.micro_batch or frames.shape[0])
        pixels = joined(
            (self.module.decode(part / self.scaling_factor) for part in parts),
            frames.shape[0],
            dim=0,
        )
        return rearrange(pixels, "(B T) C H W -> B C T H W", B=latents_BZThw.shape[0])

    def _encoded(self, frames_NCHW: Tensor, noise_NZhw: Tensor | None) -> Iterator[Tensor]:
        size = self.micro_batch or frames_NCHW.shape[0]
        for start in range(0, frames_NCHW.shape[0], size):
            posterior = self.module.encode(frames_NCHW[start : start + size])
            drawn = (
                posterior.mode()
                if noise_NZhw is None
                else posterior.sample(noise_NZhw[start : start + size])
            )
            yield drawn * self.scaling_factor
