"""What the VAEs refuse, and how they say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny.models import spatial_vae, video_vae
from torch import Tensor

from kinetoscope.models.vae.model import VideoVAE

# Halves twice: 4 pixels a latent.
VAE = VideoVAE(video_vae(spatial=spatial_vae(block_widths=(8, 8, 8))))
SPATIAL = VAE.spatial_vae.module
TEMPORAL = VAE.temporal_vae
BYTES = torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8)

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "few rows": (
        lambda: VAE.encode(torch.rand(1, 3, 5, 3, 8)),
        r"B C T H W are \(1, 3, 5, 3, 8\): 4 rows and columns at least",
    ),
    "few columns of frames": (
        lambda: SPATIAL.encode(torch.rand(2, 3, 8, 3)),
        r"N C H W are \(2, 3, 8, 3\): 4 rows and columns at least",
    ),
    "bytes": (lambda: VAE.encode(BYTES), r"torch.uint8, not .* x / 127.5 - 1"),
    "bytes in a stream": (lambda: list(VAE.encode_stream([BYTES])), "torch.uint8, not"),
    "bytes of frames": (lambda: SPATIAL.encode(BYTES[:, :, 0]), "torch.uint8, not"),
    "grey": (lambda: VAE.encode(torch.rand(1, 1, 5, 8, 8)), "C must be 3"),
    "channels last": (lambda: SPATIAL.encode(torch.rand(1, 8, 8, 3)), "C must be 3"),
    "one clip": (lambda: VAE.encode(torch.rand(3, 5, 8, 8)), "not B C T H W: 5 axes are needed"),
    "no frame": (lambda: VAE.encode(torch.rand(1, 3, 0, 8, 8)), "num_frames=0 must be at least 1"),
    "no frame in training": (lambda: VAE(torch.rand(1, 3, 0, 8, 8)), "1 entry at least"),
    "no frames to decode": (lambda: VAE.decode(latents(1), 0), "num_frames=0 must be at least 1"),
    "no latents": (lambda: VAE.decode(latents(0), 1), "1 entry at least"),
    "no frame latents": (lambda: VAE.decode_frames(latents(0)), "1 entry at least"),
    "channels of latents": (lambda: VAE.decode(latents(1, 3), 1), "Z must be 4"),
    "channels in a stream": (lambda: list(VAE.decode_stream([latents(1, 3)], 1)), "Z must be 4"),
    "channels of frame latents": (lambda: TEMPORAL.encode(latents(1, 3)), "Z must be 4"),
    "whole numbers": (lambda: VAE.decode(latents(1).long(), 1), "torch.int64, not floating-point"),
    "latents of frames": (lambda: VAE.decode(latents(1)[:, :, 0], 1), "5 axes are needed"),
    "latents of a clip": (lambda: SPATIAL.decode(latents(1)), "4 axes are needed"),
}


def latents(num_frames: int, channels: int = 4) -> Tensor:
    return torch.randn(1, channels, num_frames, 2, 2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_encoded_or_decoded_is_refused(name: str) -> None:
    run, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        run()


def test_rows_and_columns_beyond_a_multiple_of_the_stride_are_cut_off() -> None:
    with torch.no_grad():
        posterior = VAE.encode(torch.rand(1, 3, 1, 7, 4))
        assert posterior.mean.shape == (1, 4, 1, 1, 1)
        assert VAE.decode(posterior.mean, 1).shape == (1, 3, 1, 4, 4)
