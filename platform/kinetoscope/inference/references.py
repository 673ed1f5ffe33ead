"""Images and videos that a clip takes frames from."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from kinetoscope.core.errors import DataError
from kinetoscope.data.video.clip_reader import cover_and_crop, to_pixels
from kinetoscope.data.video.display import Frames
from kinetoscope.data.video.files import shown_frames
from kinetoscope.models.base import VideoAutoencoder

MOST_FRAMES = 10_000
"""Longest reference; the frames of a whole one are in memory."""

_CENTRE = (0.5, 0.5)


def read_reference(path: Path, size: tuple[int, int], fps: float | None = None) -> Frames:
    """Return the frames ``T H W 3`` of an image (one) or a video, RGB.

    They are scaled to cover ``size``, (H, W) in pixels, and cropped at the centre.

    Args:
        path: of the file.
        size: (H, W) in pixels.
        fps: frames per second to take of a video; by default all.

    Raises:
        DataError: the file can't be decoded, or has more frames than `MOST_FRAMES`.
    """
    # Moving GIFs are videos.
    image = None if path.suffix.lower() == ".gif" else _image(path)
    if image is not None:
        return cover_and_crop(image, size, _CENTRE)[None]
    frames = [
        cover_and_crop(frame, size, _CENTRE)
        for frame in islice(shown_frames(path, fps), MOST_FRAMES + 1)
    ]
    if not frames:
        raise DataError(f"the reference {path} has no decodable frame")
    if len(frames) > MOST_FRAMES:
        raise DataError(f"the reference {path} has more than {MOST_FRAMES} frames", hint="cut it")
    return np.stack(frames)


def encode_frames(vae: VideoAutoencoder, frames: Frames) -> Tensor:
    """Return the latents ``Z t h w`` of frames ``T H W 3``: the posterior's mode, in fp32."""
    piece = vae.config.chunk_frames or len(frames)
    starts = range(0, len(frames), piece)
    parts = (
        to_pixels(frames[start : start + piece])[None].to(vae.shift.device) for start in starts
    )
    posteriors = vae.encode_stream(parts)
    return torch.cat([part.mode()[0].float() for part in posteriors], dim=1)


def _image(path: Path) -> Frames | None:
    if not cv2.haveImageReader(str(path)):
        return None
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"the reference {path} can't be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
