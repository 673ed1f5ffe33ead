"""The video VAE: the spatial VAE, then the temporal VAE, ``B C T H W`` <-> ``B Z t h w``.

Parameter and buffer names are Open-Sora 1.2's ``OpenSoraVAE_V1_2``. Two latent spaces meet here:
*frame latents* ``B Z T h w`` (one per frame, scaled by the spatial VAE's factor) and *latents*
``B Z t h w``, which leave normalised, ``(z - shift) / scale``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from kinetoscope.models.base import VideoAutoencoder
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.clip_pieces import joined, regroup
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.models.vae.frames import FramewiseVAE
from kinetoscope.models.vae.inputs import check_latents
from kinetoscope.models.vae.temporal import TemporalVAE


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What the losses of a VAE compare.

    Attributes:
        video_BCTHW: decoded pixels.
        decoded_latents_BZThw: scaled frame latents that the temporal VAE gave back.
        latents_BZthw: what was decoded, drawn from the posterior; not normalised.
        frame_latents_BZThw: scaled frame latents of the video, drawn from theirs.
        posterior: of the latents; not normalised.
    """

    video_BCTHW: Tensor
    decoded_latents_BZThw: Tensor
    latents_BZthw: Tensor
    frame_latents_BZThw: Tensor
    posterior: Posterior


class VideoVAE(VideoAutoencoder):
    """Encodes and decodes videos of any length in pieces of ``config.chunk_frames`` frames.

    The pieces are independent: they neither overlap nor see each other. Gradients flow through
    every method but the streams; callers that need none run them under ``torch.no_grad()``, and
    then memory beyond input and output is that of one piece, however long the video.
    """

    config: VideoVAEConfig
    shift: Tensor
    scale: Tensor

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial_vae = FramewiseVAE(config.spatial, config.spatial_micro_batch)
        self.temporal_vae = TemporalVAE(config.temporal)
        self.register_buffer("shift", _per_channel(config.shift))
        self.register_buffer("scale", _per_channel(config.scale))

    @property
    def chunk_latents(self) -> int | None:
        """Latent frames of a whole piece; None where a clip of any length is one piece."""
        chunk = self.config.chunk_frames
        return None if chunk is None else self.temporal_vae.latent_frames(chunk)

    def forward(
        self,
        video_BCTHW: Tensor,
        *,
        spatial_noise: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Reconstruction:
        """Encode and decode a video, without normalisation in between.

        Args:
            video_BCTHW: pixels in [-1, 1], any number of frames.
            spatial_noise: as in `encode`.
            noise: standard normal ``B Z t h w`` that draws the latents; None takes the mode.

        Raises:
            ValueError: as `encode`.
        """
        frame_latents = self.encode_frames(video_BCTHW, noise=spatial_noise)
        posterior = self.encode_time(frame_latents)
        latents = posterior.mode() if noise is None else posterior.sample(noise)
        decoded = self.decode_time(latents, video_BCTHW.shape[2])
        return Reconstruction(
            self.decode_frames(decoded), decoded, latents, frame_latents, posterior
        )

    def encode(self, video_BCTHW: Tensor, *, spatial_noise: Tensor | None = None) -> Posterior:
        """Return the posterior ``B Z t h w`` of a video's normalised latents.

        Args:
            video_BCTHW: pixels in [-1, 1], any number of frames.
            spatial_noise: standard normal ``B Z T h w`` that draws the frame latents from their
                posterior, as Open-Sora does; None takes the mode.

        Raises:
            ValueError: these are not such pixels (``C`` is 3, floating point, a frame at least), or
                smaller than the spatial stride, which sizes need not be multiples of.
        """
        draws = None if spatial_noise is None else [spatial_noise]
        posterior = self._joined(self._encoded([video_BCTHW], draws), video_BCTHW.shape[2])
        return posterior.normalized(self.shift, self.scale)

    def decode(self, z_normalised_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return pixels ``B C T H W`` (about [-1, 1], not clamped) of normalised latents.

        Raises:
            ValueError: these are not such latents, or those of another number of frames.
        """
        self._check_clip(z_normalised_BZthw, num_frames)
        return joined(self._decoded([z_normalised_BZthw], num_frames), num_frames, dim=2)

    @torch.no_grad()
    def encode_stream(
        self, parts: Iterable[Tensor], *, spatial_noise: Iterable[Tensor] | None = None
    ) -> Iterator[Posterior]:
        """Encode a video that is never in memory as a whole.

        Args:
            parts: consecutive parts ``B C n H W`` of any lengths, taken when they are needed.
            spatial_noise: as in `encode`, in consecutive parts ``B Z n h w``.

        Yields:
            The posterior ``B Z t h w`` of each piece of ``config.chunk_frames`` frames, without
            gradients; together they are what `encode` gives.
        """
        for posterior in self._encoded(parts, spatial_noise):
            yield posterior.normalized(self.shift, self.scale)

    @torch.no_grad()
    def decode_stream(self, parts: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
        """Decode latents to a video that is never in memory as a whole.

        Args:
            parts: consecutive normalised latents ``B Z n h w`` of any lengths.
            num_frames: of the whole video.

        Yields:
            Pixels ``B C n H W`` of each piece of ``config.chunk_frames`` frames, without gradients;
            together they are what `decode` gives.

        Raises:
            ValueError: the latent frames are not those of ``num_frames`` frames.
        """
        yield from self._decoded(parts, num_frames)

    def encode_frames(self, video_BCTHW: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Return scaled frame latents ``B Z T h w`` (``noise`` as in `FramewiseVAE.encode`)."""
        return self.spatial_vae.encode(video_BCTHW, noise)

    def decode_frames(self, latents_BZThw: Tensor) -> Tensor:
        """Return pixels ``B C T H W`` of scaled frame latents."""
        return self.spatial_vae.decode(latents_BZThw)

    def encode_time(self, latents_BZThw: Tensor) -> Posterior:
        """Return the posterior ``B Z t h w``, not normalised, of scaled frame latents."""
        pieces = (self.temporal_vae.encode(piece) for piece in self._pieces([latents_BZThw]))
        return self._joined(pieces, latents_BZThw.shape[2])

    def decode_time(self, z_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return scaled frame latents ``B Z T h w`` of latents that are not normalised."""
        self._check_clip(z_BZthw, num_frames)
        pieces = self._latent_pieces([z_BZthw], num_frames)
        decoded = (self.temporal_vae.decode(part, frames) for part, frames in pieces)
        return joined(decoded, num_frames, dim=2)

    def _encoded(
        self, parts: Iterable[Tensor], noise: Iterable[Tensor] | None
    ) -> Iterator[Posterior]:
        draws = repeat(None) if noise is None else self._pieces(noise)
        for piece in self._pieces(parts):
            draw = next(draws, None)
            if draw is None and noise is not None:
                raise ValueError("spatial_noise has fewer frames than the video")
            posterior = self.temporal_vae.encode(self.encode_frames(piece, noise=draw))
            del piece, draw
            yield posterior
            del posterior

    def _decoded(self, parts: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
        for part, frames in self._latent_pieces(parts, num_frames):
            check_latents(part, "B Z t h w", channels=self.config.latent_channels)
            z = part * self.scale + self.shift
            yield self.decode_frames(self.temporal_vae.decode(z, frames))

    def _joined(self, pieces: Iterable[Posterior], num_frames: int) -> Posterior:
        moments = (torch.cat([piece.mean, piece.logvar], 1) for piece in pieces)
        length = sum(latents for _, latents in self.config.pieces(num_frames))
        mean, logvar = joined(moments, length, dim=2).chunk(2, dim=1)
        return Posterior(mean, logvar)

    def _pieces(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield pieces of frames."""
        return regroup(parts, repeat(self.config.chunk_frames or sys.maxsize))

    def _latent_pieces(
        self, parts: Iterable[Tensor], num_frames: int
    ) -> Iterator[tuple[Tensor, int]]:
        """Yield pieces of latents and their numbers of frames."""
        chunks = self.config.pieces(num_frames)
        given = 0
        lengths = [latents for _, latents in chunks]
        # One more than there should be shows latents that are too many.
        for index, part in enumerate(regroup(parts, [*lengths, 1])):
            given += part.shape[2]
            if index == len(chunks) or part.shape[2] != lengths[index]:
                self._check_latents(given, num_frames)
            yield part, chunks[index][0]
        self._check_latents(given, num_frames)

    def _check_clip(self, z_BZthw: Tensor, num_frames: int) -> None:
        check_latents(z_BZthw, "B Z t h w", channels=self.config.latent_channels)
        self._check_latents(z_BZthw.shape[2], num_frames)

    def _check_latents(self, given: int, num_frames: int) -> None:
        wanted = sum(latents for _, latents in self.config.pieces(num_frames))
        if given != wanted:
            raise ValueError(f"{num_frames} frames have {wanted} latent frames, got {given}")


MODEL = VideoVAE


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1, 1)
