"""The video VAE: the frame VAE, then the temporal VAE, ``B C T H W`` <-> ``B Z t h w``.

Parameter and buffer names are Open-Sora 1.2's ``OpenSoraVAE_V1_2``. Two latent spaces meet here:
*frame latents* ``B Z T h w`` (one per frame, scaled by the frame VAE's factor) and *latents*
``B Z t h w``, which leave normalised, ``(z - shift) / scale``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from kinetoscope.models.config import SpatialVAEConfig, VideoVAEConfig
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.spatial_vae import SpatialVAE
from kinetoscope.models.temporal_vae import TemporalVAE


class FrameVAE(nn.Module):
    """The spatial VAE over the frames of videos, some frames at a time, with scaled latents."""

    def __init__(self, config: SpatialVAEConfig, micro_batch: int) -> None:
        super().__init__()
        self.scaling_factor = config.scaling_factor
        self.micro_batch = micro_batch
        self.module = SpatialVAE(config)

    def encode(self, video_BCTHW: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return scaled frame latents ``B Z T h w``.

        Args:
            video_BCTHW: pixels in [-1, 1].
            noise: standard normal ``B Z T h w`` that draws from the posterior; None takes its mode.
        """
        frames = rearrange(video_BCTHW, "B C T H W -> (B T) C H W")
        pieces: list[Tensor | None] = [None] * -(-frames.shape[0] // self.micro_batch)
        if noise is not None:
            folded = rearrange(noise, "B Z T h w -> (B T) Z h w")
            pieces = list(torch.split(folded, self.micro_batch))
        latents = []
        for part, draw in zip(torch.split(frames, self.micro_batch), pieces, strict=True):
            posterior = self.module.encode(part)
            latents.append(posterior.mode() if draw is None else posterior.sample(draw))
        scaled = torch.cat(latents) * self.scaling_factor
        return rearrange(scaled, "(B T) Z h w -> B Z T h w", B=video_BCTHW.shape[0])

    def decode(self, latents_BZThw: Tensor) -> Tensor:
        """Return pixels ``B C T H W`` of scaled frame latents."""
        frames = rearrange(latents_BZThw, "B Z T h w -> (B T) Z h w") / self.scaling_factor
        pixels = torch.cat(
            [self.module.decode(part) for part in torch.split(frames, self.micro_batch)]
        )
        return rearrange(pixels, "(B T) C H W -> B C T H W", B=latents_BZThw.shape[0])


class VideoVAE(nn.Module):
    """Encodes and decodes videos of any length in pieces of ``config.chunk_frames`` frames.

    The pieces are independent: they neither overlap nor see each other. Gradients flow through
    every method; callers that need none run them under ``torch.no_grad()``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial_vae = FrameVAE(config.spatial, config.spatial_micro_batch)
        self.temporal_vae = TemporalVAE(config.temporal)
        self.register_buffer("shift", _per_channel(config.shift))
        self.register_buffer("scale", _per_channel(config.scale))

    def latent_size(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the latent ``(t, h, w)`` of a video of ``(T, H, W)``.

        Pixels beyond a multiple of the spatial stride have no latents of their own
        (`pixel_size_valid`).
        """
        num_frames, height, width = size
        stride = self.config.spatial.stride
        latent_frames = sum(latent for _, latent in self._chunks(num_frames))
        return latent_frames, height // stride, width // stride

    def pixel_size_valid(self, height: int, width: int) -> bool:
        """Tell whether decoding gives back exactly this size."""
        stride = self.config.spatial.stride
        return height % stride == 0 and width % stride == 0

    def encode(self, video_BCTHW: Tensor, *, spatial_noise: Tensor | None = None) -> Posterior:
        """Return the posterior ``B Z t h w`` of a video, not normalised.

        Args:
            video_BCTHW: pixels in [-1, 1], any number of frames.
            spatial_noise: standard normal ``B Z T h w`` that draws the frame latents from their
                posterior, as Open-Sora does; None takes the mode.
        """
        pieces = torch.split(video_BCTHW, self.config.chunk_frames, dim=2)
        draws: list[Tensor | None] = [None] * len(pieces)
        if spatial_noise is not None:
            draws = list(torch.split(spatial_noise, self.config.chunk_frames, dim=2))
        return Posterior.cat(
            [
                self.temporal_vae.encode(self.encode_frames(piece, noise=draw))
                for piece, draw in zip(pieces, draws, strict=True)
            ],
            dim=2,
        )

    def decode(self, z_normalised_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return pixels ``B C T H W`` (about [-1, 1], not clamped) of normalised latents.

        Raises:
            ValueError: the latent frames are not those of ``num_frames`` frames.
        """
        z = self.denormalize(z_normalised_BZthw)
        pieces = self._split_latents(z, num_frames)
        return torch.cat(
            [self.decode_frames(self.temporal_vae.decode(part, n)) for part, n in pieces], dim=2
        )

    def normalize(self, z_BZthw: Tensor) -> Tensor:
        """Return ``(z - shift) / scale``, what the diffusion model sees."""
        return (z_BZthw - self.shift) / self.scale

    def denormalize(self, z_BZthw: Tensor) -> Tensor:
        """Undo `normalize`."""
        return z_BZthw * self.scale + self.shift

    def encode_frames(self, video_BCTHW: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Return scaled frame latents ``B Z T h w`` (``noise`` as in `FrameVAE.encode`)."""
        return self.spatial_vae.encode(video_BCTHW, noise)

    def decode_frames(self, latents_BZThw: Tensor) -> Tensor:
        """Return pixels ``B C T H W`` of scaled frame latents."""
        return self.spatial_vae.decode(latents_BZThw)

    def encode_time(self, latents_BZThw: Tensor) -> Posterior:
        """Return the posterior ``B Z t h w``, not normalised, of scaled frame latents."""
        pieces = torch.split(latents_BZThw, self.config.chunk_frames, dim=2)
        return Posterior.cat([self.temporal_vae.encode(piece) for piece in pieces], dim=2)

    def decode_time(self, z_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return scaled frame latents ``B Z T h w`` of latents that are not normalised."""
        pieces = self._split_latents(z_BZthw, num_frames)
        return torch.cat([self.temporal_vae.decode(part, n) for part, n in pieces], dim=2)

    def _split_latents(self, z_BZthw: Tensor, num_frames: int) -> Iterator[tuple[Tensor, int]]:
        chunks = self._chunks(num_frames)
        frames, latents = [n for n, _ in chunks], [latent for _, latent in chunks]
        if z_BZthw.shape[2] != sum(latents):
            raise ValueError(
                f"{num_frames} frames have {sum(latents)} latent frames, got {z_BZthw.shape[2]}"
            )
        return zip(torch.split(z_BZthw, latents, dim=2), frames, strict=True)

    def _chunks(self, num_frames: int) -> list[tuple[int, int]]:
        """Return frames and latent frames of each piece."""
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames} must be at least 1")
        size = self.config.chunk_frames
        lengths = [min(size, num_frames - start) for start in range(0, num_frames, size)]
        return [(length, self.temporal_vae.latent_frames(length)) for length in lengths]


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1, 1)
