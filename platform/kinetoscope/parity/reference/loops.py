"""Frame arithmetic of Open-Sora 1.2's clips that are made in several loops."""

from __future__ import annotations

from kinetoscope.core.errors import ConfigError

_PIECE_FRAMES = 17
_PIECE_LATENTS = 5


def frames_of_pieces(latents: int) -> int:
    """Return the frames of a number of latent frames that fill whole pieces of the VAE.

    Raises:
        ConfigError: they don't.
    """
    if latents % _PIECE_LATENTS:
        raise ConfigError(
            f"{latents} latent frames are no whole pieces",
            hint=f"give a multiple of {_PIECE_LATENTS}",
        )
    return latents // _PIECE_LATENTS * _PIECE_FRAMES
